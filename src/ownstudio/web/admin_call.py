"""One request to the admin API: what it asks, checked by name and type, and what it is answered.

Bodies and queries are read into Structs that know all of their fields: another one is refused by its name. An error has
one plain shape, `{"error": {"code", "message", "param"}, "request_id"}`.
"""

import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Annotated, Any, Protocol, TypeVar
from urllib.parse import parse_qsl

import msgspec
from msgspec import Meta, Struct

from ownstudio.accounts.admin import AuditLog, Change
from ownstudio.accounts.changes import Missing, Taken, check_id
from ownstudio.core.errors import ErrorKind, StudioError
from ownstudio.web.exchange import Exchange

BODY_BYTES_MAX = 1024**2
QUERY_FIELDS_MAX = 32
PAGE_MAX = 1000

# What a kind is called here where its word speaks of keys and models.
_CODES = {
    ErrorKind.MISSING_API_KEY: "missing_token",
    ErrorKind.INVALID_API_KEY: "invalid_token",
    ErrorKind.IDEMPOTENCY_CONFLICT: "conflict",
}

# The end of a message of msgspec that says where.
_PLACE = re.compile(r" - at `(?:key in )?\$\.?(?P<path>[^`]*)`$")
_FIELD = re.compile(r"(?:unknown|required) field `(?P<name>[^`]*)`")

Limit = Annotated[int, Meta(ge=1, le=PAGE_MAX)]
Cursor = Annotated[str, Meta(min_length=1, max_length=64)]

Form = TypeVar("Form", bound=Struct)


class Identified(Protocol):
    """Whatever has an id that a page can end with."""

    @property
    def id(self) -> str | int: ...


Item = TypeVar("Item", bound=Identified)
T = TypeVar("T")


class PageQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Which part of a list: at most `limit` of what comes after the one with the id `after`."""

    limit: Limit = 100
    after: Cursor | None = None


class AdminCall:
    """A request whose token is known. `actor` is the token's id."""

    def __init__(
        self, exchange: Exchange, params: Mapping[str, str], actor: str, audit: AuditLog
    ) -> None:
        self.actor = actor
        self._exchange = exchange
        self._params = params
        self._audit = audit
        self._given: dict[str, Any] = {}

    def id(self, word: str) -> str:
        """The id of a `word` as the path has it. Raises StudioError INVALID_PARAMETER for what cannot be one."""
        value = self._params[word]
        check_given_id(word, value)
        return value

    def query(self, form: type[Form]) -> Form:
        """The query. Raises StudioError INVALID_PARAMETER, naming the field at fault."""
        text = self._exchange.scope["query_string"].decode("latin-1")
        fields: dict[str, str] = {}
        with told():
            pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=QUERY_FIELDS_MAX)
        for name, value in pairs:
            if name in fields:
                raise refused(f"{name} stands twice in the query", name)
            fields[name] = value
        return _read(lambda: msgspec.convert(fields, form, strict=False))

    async def body(self, form: type[Form]) -> Form:
        """The JSON body. Raises StudioError INVALID_BODY, INVALID_PARAMETER, BODY_TOO_LARGE, HungUp."""
        body = await self._exchange.body(BODY_BYTES_MAX) or b"{}"
        read = _read(lambda: msgspec.json.decode(body, type=form))
        self._given = msgspec.json.decode(body)
        return read

    @asynccontextmanager
    async def change(self, action: str, target: str = "") -> AsyncGenerator[Change, None]:
        """Make a change in the block; the audit log has it, with the body as given, whatever comes of it.

        What accounts and billing refuse with a ValueError is told to the client. Raises StudioError, StoreError.
        """
        async with self._audit.change(
            self.actor, action, target, self._given, self._exchange.request_id
        ) as change:
            with told():
                yield change


Answer = tuple[int, object]
Handler = Callable[[AdminCall], Awaitable[Answer]]


class Place(Struct, frozen=True):
    """One path and what each method does there. `name` is its label in the metrics."""

    path: str
    name: str
    methods: dict[str, Handler]


@contextmanager
def told(param: str | None = None) -> Iterator[None]:
    """Turns what other layers refuse into what the client is told."""
    try:
        yield
    except Taken as error:
        raise StudioError(ErrorKind.IDEMPOTENCY_CONFLICT, str(error), param="id") from None
    except Missing as error:
        raise not_there(str(error), param or error.what) from None
    except ValueError as error:
        raise refused(str(error), param) from None


def check_given_id(word: str, value: str, param: str | None = None) -> None:
    """Raises StudioError INVALID_PARAMETER for what cannot be the id of a `word`, by default the name of its field."""
    with told(param or word):
        check_id(word, value)


def refused(message: str, param: str | None = None) -> StudioError:
    return StudioError(ErrorKind.INVALID_PARAMETER, message, param=param)


def not_there(message: str, param: str | None = None) -> StudioError:
    return StudioError(ErrorKind.NOT_FOUND, message, param=param)


def page(
    items: Sequence[Item], asked: PageQuery, describe: Callable[[Item], object]
) -> dict[str, object]:
    """A part of a list from which nothing is ever taken; `next` is what to ask `after`, or None at the end."""
    start = 0
    if asked.after is not None:
        ids = [str(item.id) for item in items]
        if asked.after not in ids:
            raise refused(f"nothing in this list has the id {asked.after!r}", "after")
        start = ids.index(asked.after) + 1
    part = items[start : start + asked.limit]
    more = start + asked.limit < len(items)
    return {"data": [describe(item) for item in part], "next": str(part[-1].id) if more else None}


def admin_error_body(error: StudioError, request_id: str) -> bytes:
    return msgspec.json.encode(
        {
            "error": {
                "code": _CODES.get(error.kind, error.kind.word),
                "message": error.message,
                "param": error.param,
            },
            "request_id": request_id,
        }
    )


def _read(reading: Callable[[], Form]) -> Form:
    try:
        return reading()
    except msgspec.ValidationError as error:
        raise _misfit(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise StudioError(ErrorKind.INVALID_BODY, "The body is not JSON.") from None


def _misfit(message: str) -> StudioError:
    """The words of msgspec, with the field at fault where clients look for it."""
    place = _PLACE.search(message)
    path = place["path"] if place else ""
    words = message[: place.start()] if place else message
    field = _FIELD.search(words)
    names = [part for part in (path, field["name"] if field else "") if part]
    return refused(f"{words}.", ".".join(names) or None)
