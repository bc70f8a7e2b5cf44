"""What a generation says, free of any dialect, and the answer that its events add up to.

Order of events: one `Started`; any number of deltas of any choice; one `Finish` for each choice; one `Done`,
always last, together with the last `Finish`.
A stream that ends without `Done` is a failure, never an answer.
"""

from collections.abc import Iterable
from enum import Enum

from msgspec import Struct

TokenId = int

# The name and value of something that is said beside an answer; over HTTP it is a header.
Remark = tuple[str, str]


class FinishReason(Enum):
    """Why a choice ended. The words are part of both APIs."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"


class TopLogprob(Struct, frozen=True):
    token: str
    bytes: tuple[int, ...]
    logprob: float


class TokenLogprob(Struct, frozen=True):
    """The log probability of one written token, with its strongest rivals (natural logarithm)."""

    token: str
    bytes: tuple[int, ...]
    logprob: float
    top: tuple[TopLogprob, ...] = ()


class Started(Struct, frozen=True):
    """The engine has begun to answer a prompt of so many tokens, of which so many were cached.

    The cache fields are those of `Usage`. `warnings` are for the client: what of its request is not enforced.
    `remarks` tell how the request fared on its way here.
    """

    prompt_tokens: int
    cached_tokens: int = 0
    cache_creation_tokens: int = 0
    explicit_cache: bool = False
    warnings: tuple[str, ...] = ()
    remarks: tuple[Remark, ...] = ()


class TextDelta(Struct, frozen=True):
    """New text of one choice; `tokens` is how many that choice has written so far."""

    choice: int
    text: str
    tokens: int
    logprobs: tuple[TokenLogprob, ...] = ()


class ReasoningDelta(Struct, frozen=True):
    """New text that a choice thinks before it answers."""

    choice: int
    text: str
    tokens: int


class ToolCallStart(Struct, frozen=True):
    """A choice begins to call `name`. `call` counts the calls of that choice from 0; `id` is made up by us."""

    choice: int
    call: int
    id: str
    name: str
    tokens: int


class ToolCallDelta(Struct, frozen=True):
    """More of a call's arguments. All of them together are the text of a JSON object."""

    choice: int
    call: int
    arguments: str
    tokens: int


class Finish(Struct, frozen=True):
    """One choice has ended after `tokens` tokens, its end token not counted."""

    choice: int
    reason: FinishReason
    tokens: int


class Usage(Struct, frozen=True):
    """Token counts of one generation. Totals include their parts: `prompt_tokens` its cached ones and those of
    a cache block made by this request, `completion_tokens` those of reasoning. `explicit_cache`: the request
    marked what to cache."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    cache_creation_tokens: int = 0
    explicit_cache: bool = False

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


class Done(Struct, frozen=True):
    """Every choice has finished; this is what they used together."""

    usage: Usage


Event = Started | TextDelta | ReasoningDelta | ToolCallStart | ToolCallDelta | Finish | Done


def texts(events: Iterable[Event]) -> list[str]:
    """Everything that the events say, joined per choice, also where they do not make a whole answer."""
    said: dict[int, list[str]] = {}
    for event in events:
        match event:
            case TextDelta(choice, text) | ReasoningDelta(choice, text):
                said.setdefault(choice, []).append(text)
            case ToolCallStart(choice=choice, name=name):
                said.setdefault(choice, []).append(f" {name} ")
            case ToolCallDelta(choice=choice, arguments=arguments):
                said.setdefault(choice, []).append(arguments)
            case _:
                pass
    return ["".join(said[choice]) for choice in sorted(said)]


class ToolCall(Struct, frozen=True):
    """A call that an assistant makes, now or earlier in the conversation; `arguments` is JSON text."""

    name: str
    arguments: str
    id: str = ""


class Choice(Struct, frozen=True):
    index: int
    text: str
    finish_reason: FinishReason
    logprobs: tuple[TokenLogprob, ...] = ()
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()


class Completion(Struct, frozen=True):
    """A whole answer: the sum of its events."""

    choices: tuple[Choice, ...]
    usage: Usage


def collect(events: Iterable[Event]) -> Completion:
    """Add up a finished stream. Raises ValueError when it has no `Done` or a choice no `Finish`."""
    drafts: dict[int, _Draft] = {}
    usage: Usage | None = None
    for event in events:
        if isinstance(event, Done):
            usage = event.usage
        elif not isinstance(event, Started):
            if event.choice not in drafts:
                drafts[event.choice] = _Draft(event.choice)
            drafts[event.choice].add(event)
    if usage is None:
        raise ValueError(_TORN)
    return Completion(tuple(drafts[index].choice() for index in sorted(drafts)), usage)


_TORN = "the stream ended before its generation did"


class _Draft:
    """One choice while its events come in."""

    def __init__(self, index: int) -> None:
        self._index = index
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._logprobs: list[TokenLogprob] = []
        self._starts: dict[int, ToolCallStart] = {}
        self._arguments: dict[int, list[str]] = {}
        self._reason: FinishReason | None = None

    def add(
        self, event: TextDelta | ReasoningDelta | ToolCallStart | ToolCallDelta | Finish
    ) -> None:
        match event:
            case TextDelta():
                self._text.append(event.text)
                self._logprobs.extend(event.logprobs)
            case ReasoningDelta():
                self._reasoning.append(event.text)
            case ToolCallStart():
                self._starts[event.call] = event
                self._arguments[event.call] = []
            case ToolCallDelta():
                self._arguments[event.call].append(event.arguments)
            case Finish():
                self._reason = event.reason

    def choice(self) -> Choice:
        if self._reason is None:
            raise ValueError(_TORN)
        return Choice(
            index=self._index,
            text="".join(self._text),
            finish_reason=self._reason,
            logprobs=tuple(self._logprobs),
            reasoning="".join(self._reasoning),
            tool_calls=tuple(
                ToolCall(start.name, "".join(self._arguments[call]), start.id)
                for call, start in sorted(self._starts.items())
            ),
        )
