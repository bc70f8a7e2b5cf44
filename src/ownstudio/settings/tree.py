"""Every setting, declared once.

A `Meta` says what a setting means and which values it takes; `extra={"secret": True}` keeps its value out of
every message and listing. Durations end in `_s` and are seconds, sizes name their unit.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

DAY_S = 86_400.0

# The one deployment of a server that was told nothing: the model that comes with the package.
DEFAULT_DEPLOYMENTS: Mapping[str, Mapping[str, Any]] = {
    "ownstudio-tiny": {"weights": "bundled", "routes": ("*",)},
}


class SettingsError(Exception):
    """Settings that the server refuses to start with. The text names the key, the value and what is allowed."""


class Server(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the service is reached, and how long it waits."""

    host: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=253,
            description="Address to listen on, or a name, which is looked up once. 127.0.0.1 is this machine alone; "
            "0.0.0.0 is every network it is on.",
        ),
    ] = "127.0.0.1"
    port: Annotated[
        int, Meta(ge=0, le=65535, description="TCP port to listen on. 0 takes any free one.")
    ] = 8000
    body_max_bytes: Annotated[
        int,
        Meta(
            ge=1024,
            le=1024**3,
            description="Longest request body in bytes; a longer one is answered 413.",
        ),
    ] = 8 * 1024**2
    shutdown_grace_s: Annotated[
        float,
        Meta(
            ge=0,
            le=3600,
            description="How long running answers may go on after SIGTERM, in seconds.",
        ),
    ] = 30.0
    keep_alive_s: Annotated[
        float,
        Meta(
            ge=1,
            le=3600,
            description="Silence on a stream, in seconds, after which an SSE comment is sent, so that no proxy "
            "hangs up.",
        ),
    ] = 15.0
    first_byte_grace_s: Annotated[
        float,
        Meta(
            ge=0,
            le=3600,
            description="How long a stream may wait for its first token before its header goes out, in seconds. "
            "A failure within this time is a plain error with its own status.",
        ),
    ] = 10.0
    request_deadline_s: Annotated[
        float,
        Meta(
            ge=1,
            le=DAY_S,
            description="Longest time for one request, waiting included, in seconds.",
        ),
    ] = 300.0


class Log(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is written to standard error."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="Least serious message that is written."),
    ] = "info"
    access: Annotated[bool, Meta(description="One line for every request answered.")] = True
    prompts: Annotated[
        bool,
        Meta(
            description="Also write what clients ask and what is answered. Private text then reaches the log."
        ),
    ] = False


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How limits are kept. How high they are belongs to accounts, workspaces and keys."""

    per_second: Annotated[
        bool,
        Meta(
            description="Hold requests and tokens also to a sixtieth of their limit in each second."
        ),
    ] = True
    wait_s: Annotated[
        float,
        Meta(
            ge=0,
            le=3600,
            description="How long a request over a limit may wait for its turn, in seconds, instead of being answered "
            "429 at once. Keys take turns.",
        ),
    ] = 0.0
    waiting_max: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="Requests that may wait for a limit at once; one more is answered 429.",
        ),
    ] = 10_000
    surge: Annotated[
        float,
        Meta(
            ge=0,
            le=1000,
            description="Requests of an account to a model in ten seconds may be at most so many times those of the "
            "ten seconds before, and 10 more. 0 is no such rule.",
        ),
    ] = 0.0
    redis_down: Annotated[
        Literal["refuse", "allow"],
        Meta(
            description="When Redis cannot be reached: `refuse` answers 503, `allow` goes on with limits of this "
            "process alone."
        ),
    ] = "refuse"


class Billing(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What answers cost."""

    currency: Annotated[
        str,
        Meta(
            min_length=3,
            max_length=8,
            description="The one currency of all prices and balances.",
        ),
    ] = "USD"
    local_prices: Annotated[
        Literal["none", "singapore", "virginia", "beijing"],
        Meta(
            description="The published prices that the region `local` takes over: `none` makes every model free until "
            "you import a price."
        ),
    ] = "none"
    local_free_tokens: Annotated[
        int,
        Meta(
            ge=0,
            le=10**15,
            description="Tokens that each account has free for each model in the region `local`. Other regions give "
            "what is published.",
        ),
    ] = 0
    local_free_days: Annotated[
        int,
        Meta(
            ge=1,
            le=36_500,
            description="Days that the free tokens of the region `local` last, from when the account was made.",
        ),
    ] = 90
    hold_margin_s: Annotated[
        float,
        Meta(
            ge=1,
            le=DAY_S,
            description="How long after a request's deadline money held for it is given back, should the server have "
            "died, in seconds.",
        ),
    ] = 60.0


class Cache(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is remembered of prompts, as hashes, to report and price cache hits."""

    implicit_ttl_s: Annotated[
        float,
        Meta(
            ge=1,
            le=30 * DAY_S,
            description="How long a prompt that nobody sends again counts as seen, in seconds.",
        ),
    ] = 3600.0
    explicit_ttl_s: Annotated[
        float,
        Meta(
            ge=1,
            le=30 * DAY_S,
            description="How long a block marked with `cache_control` is kept after its last hit, in seconds.",
        ),
    ] = 300.0
    blocks_max: Annotated[
        int,
        Meta(
            ge=1024,
            le=100_000_000,
            description="Blocks of 32 tokens remembered in this process, about 200 bytes each; the oldest go first.",
        ),
    ] = 500_000


class Admin(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The admin API."""

    enabled: Annotated[bool, Meta(description="Answer below /admin/v1.")] = True
    requests_per_minute: Annotated[
        int,
        Meta(
            ge=1, le=1_000_000, description="Requests a minute to the admin API, over all tokens."
        ),
    ] = 600


class Deployment(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Weights on an engine, and the model names that they answer."""

    weights: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=4096,
            description="What to load: `bundled` (the model in the package), the path of a GGUF file or of a directory "
            "with one, or `hf:REPO[:FILE]` (Hugging Face) or `ms:REPO[:FILE]` (ModelScope) pulled earlier with "
            "`ownstudio model pull`. A relative path counts from this file's directory.",
        ),
    ]
    engine: Annotated[
        Literal["llamacpp"],
        Meta(description="What computes: `llamacpp`, llama.cpp in a worker process of its own."),
    ] = "llamacpp"
    routes: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=128)], ...],
        Meta(
            max_length=1024,
            description="Model names that this deployment answers besides its own; `*` is every name that no other "
            "deployment answers.",
        ),
    ] = ()
    context: Annotated[
        int,
        Meta(
            ge=0,
            le=4_194_304,
            description="Tokens that one request may hold, prompt and answer together. 0 is what the model and "
            "the memory allow.",
        ),
    ] = 0
    slots: Annotated[
        int,
        Meta(ge=0, le=256, description="Requests that run at once. 0 is what the machine allows."),
    ] = 0
    threads: Annotated[
        int,
        Meta(
            ge=0,
            le=1024,
            description="CPU threads of the engine. 0 is one fewer than the cores, at least 1: an engine on every core "
            "starves the server beside it.",
        ),
    ] = 0
    queue_max: Annotated[
        int,
        Meta(
            ge=0,
            le=100_000,
            description="Requests that may wait for a slot; one more is answered 503.",
        ),
    ] = 256
    queue_wait_s: Annotated[
        float,
        Meta(ge=0, le=DAY_S, description="Longest wait for a slot, in seconds; then 503."),
    ] = 60.0
    start: Annotated[
        Literal["eager", "on-demand"],
        Meta(
            description="`eager` starts the engine with the server, `on-demand` at the first request for it."
        ),
    ] = "eager"
    start_deadline_s: Annotated[
        float, Meta(ge=1, le=DAY_S, description="Longest time for the engine to load, in seconds.")
    ] = 300.0
    first_token_deadline_s: Annotated[
        float,
        Meta(ge=1, le=DAY_S, description="Longest wait for the engine's first token, in seconds."),
    ] = 240.0
    silence_deadline_s: Annotated[
        float,
        Meta(
            ge=1,
            le=DAY_S,
            description="Longest silence of the engine between two tokens, in seconds; then it counts as dead.",
        ),
    ] = 60.0
    cache_ram_mib: Annotated[
        int,
        Meta(
            ge=0,
            le=1024**2,
            description="Memory, in MiB, that keeps the prompts of finished conversations for their next turn. "
            "0 is none.",
        ),
    ] = 256


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole tree."""

    data: Annotated[
        Path,
        Meta(
            description="Directory for the database, the first key and pulled models. By default "
            "`ownstudio` in $XDG_DATA_HOME, or in ~/.local/share.",
        ),
    ]
    database_url: Annotated[
        str,
        Meta(
            max_length=4096,
            description="Database for accounts, keys and the ledger, as an SQLAlchemy URL such as "
            "postgresql://user:password@host/name. Empty is SQLite in the data directory.",
            extra={"secret": True},
        ),
    ] = ""
    redis_url: Annotated[
        str,
        Meta(
            max_length=4096,
            description="Redis for limits and the prefix index of several servers, such as redis://host:6379/0. Empty "
            "keeps both in this process.",
            extra={"secret": True},
        ),
    ] = ""
    regions: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=300)], ...],
        Meta(
            max_length=32,
            description="Regions that this server plays: `local` (every model), `singapore`, `virginia` or `beijing`. "
            "Several are told apart by the Host header or the port: `singapore@intl.example.com`, `beijing@:8001`. One "
            "without an address has all other requests.",
        ),
    ] = ("local",)
    server: Server = Server()
    log: Log = Log()
    limits: Limits = Limits()
    billing: Billing = Billing()
    cache: Cache = Cache()
    admin: Admin = Admin()
    deployments: dict[str, Deployment]


def cross_check(settings: Settings) -> None:
    """What no single field can say. Raises SettingsError, naming both keys at fault."""
    owners: dict[str, str] = {}
    for name, deployment in settings.deployments.items():
        for route in dict.fromkeys((name, *deployment.routes)):
            if route in owners:
                raise SettingsError(
                    f"deployments.{owners[route]} and deployments.{name} both answer {route!r}: "
                    "a model name may have one deployment only; take it out of one of their routes"
                )
            owners[route] = name
