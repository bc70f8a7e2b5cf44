"""The gateway under test: `ownstudio serve` in a process of its own, its worker real or replaced by the double.

Run as `python -m benchmarks.gateway OPTIONS`, with OPTIONS a JSON object of the fields of `GatewayOptions`. What
serves is the product, whole; only the function that says how a worker is run is wrapped, which also
is how the benchmark learns where the engine listens: the file `announcement` holds an `EngineAddress`.
"""

import sys
from pathlib import Path

import msgspec
from msgspec import Struct

from benchmarks.double import DoubleOptions
from ownstudio.app.serve import serve
from ownstudio.core.request import EngineRequest
from ownstudio.engines import llamacpp
from ownstudio.engines.base import EngineFacts
from ownstudio.engines.llamacpp_wire import encode_request
from ownstudio.engines.supervisor import ChildSpec
from ownstudio.engines.worker import WorkerOptions
from ownstudio.settings import Deployment, Loaded, Log, Server, Settings

DEPLOYMENT = "bench"
QUEUE_MAX = 4096


class EngineAddress(Struct, frozen=True):
    """Where the gateway's engine listens, and the key that it wants."""

    socket_path: str
    key: str


class GatewayOptions(Struct, frozen=True):
    """`gap_s` is the double's pace; None is the real engine. `double_core` is the CPU that it runs on.

    With `endless` the engine is told to write on after its end token, so that every answer has the length asked for.
    `slots` and `context` are the deployment's, 0 for what the product chooses.
    """

    data: str
    port: int
    announcement: str
    gap_s: float | None = None
    endless: bool = False
    slots: int = 0
    context: int = 0
    double_core: int | None = None
    double_tcp_port: int | None = None


def _settings(options: GatewayOptions) -> Settings:
    """The defaults of the product. Built past their validation: 1,000 streams need more slots than it allows."""
    deployment = Deployment(
        weights="bundled",
        routes=("*",),
        slots=options.slots,
        context=options.context,
        queue_max=QUEUE_MAX,
    )
    return Settings(
        data=Path(options.data),
        server=Server(port=options.port, shutdown_grace_s=0.0),
        log=Log(),
        deployments={DEPLOYMENT: deployment},
    )


def _announcing(bench: GatewayOptions) -> None:
    """Wrap the making of worker commands, before the first one is made."""
    worker_spec = llamacpp.worker_spec

    def spec(name: str, options: WorkerOptions, socket_path: Path, key: str) -> ChildSpec:
        address = EngineAddress(str(socket_path), key)
        Path(bench.announcement).write_bytes(msgspec.json.encode(address))
        product = worker_spec(name, options, socket_path, key)
        if bench.gap_s is None:
            return product
        double = DoubleOptions(
            socket_path=str(socket_path),
            context=options.context,
            slots=options.slots,
            gap_s=bench.gap_s,
            core=bench.double_core,
            tcp_port=bench.double_tcp_port,
        )
        argument = msgspec.json.encode(double).decode()
        return msgspec.structs.replace(
            product, command=[sys.executable, "-m", "benchmarks.double", argument]
        )

    llamacpp.worker_spec = spec


def _write_on_after_the_end() -> None:

    def endless(request: EngineRequest, facts: EngineFacts) -> bytes:
        before, found, after = encode_request(request, facts).partition(b'"ignore_eos":')
        assert found
        assert after.startswith(b"false")
        return before + found + after.replace(b"false", b"true", 1)

    vars(llamacpp)["encode_request"] = endless


def main() -> int:
    options = msgspec.json.decode(sys.argv[1], type=GatewayOptions)
    _announcing(options)
    if options.endless:
        _write_on_after_the_end()
    return serve(Loaded(settings=_settings(options), sources={}, config=None))


if __name__ == "__main__":
    sys.exit(main())
