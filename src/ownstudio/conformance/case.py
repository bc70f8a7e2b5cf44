"""A case: one request, what must come back, and where that is known from."""

from collections.abc import Callable, Iterator
from typing import Literal, TypedDict

from msgspec import Struct

from ownstudio.conformance.shapes import Shape

Dialect = Literal["openai", "dashscope"]
Json = dict[str, object]


class Answer(Struct, frozen=True):
    """What came back. Header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Frame(Struct, frozen=True):
    """One server-sent event: its lines but the data, and the data as JSON; None where that is no JSON."""

    head: tuple[str, ...]
    data: object
    raw: str


Rule = Callable[[Answer, list[Frame]], Iterator[str]]


class Case(Struct, frozen=True):
    """`key` says which key is shown: the right one, a wrong one, or none.

    `statuses` are those that are known; `shape` is of the whole body, or of the data of each event of a stream.
    `rules` look at what no shape can say. In `body`, a model named `MODEL` or `CODER` stands for the one that the
    caller has chosen; bytes are sent as they are.
    """

    name: str
    dialect: Dialect
    source: str
    path: str
    body: Json | bytes | None = None
    shape: Shape | None = None
    method: str = "POST"
    key: Literal["right", "wrong", "none"] = "right"
    headers: dict[str, str] = {}
    statuses: tuple[int, ...] = (200,)
    streams: bool = False
    rules: tuple[Rule, ...] = ()


class More(TypedDict, total=False):
    """The fields of a case that have defaults, for tables that share the rest."""

    path: str
    method: str
    key: Literal["right", "wrong", "none"]
    headers: dict[str, str]
    statuses: tuple[int, ...]
    streams: bool
    rules: tuple[Rule, ...]


MODEL = "MODEL"
CODER = "CODER"
