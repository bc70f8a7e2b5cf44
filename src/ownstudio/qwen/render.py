"""Prompts to token ids: conversations through the model's own chat template, raw text as it is.

Rules: what a client writes in a system, user or tool message, and in any name or id, is plain text, whatever it
looks like. In what an assistant is said to have written, tags such as `<think>` keep their meaning, since
templates read them, but control tokens (`<|…|>`) do not. A raw prompt is the client's own: special
tokens in it are special. Every refusal is a StudioError that names the parameter.

Where asked, the renderer follows places in the messages through the template, to tell how many tokens stand before
each. The ids never depend on that: the text with marks in it must come out as the text without, or no place is told.
"""

import json
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import accumulate
from typing import Any, NoReturn
from unicodedata import is_normalized, normalize

from msgspec import Struct

from ownstudio.core.errors import ErrorKind, StudioError, invalid_parameter
from ownstudio.core.events import TokenId
from ownstudio.core.request import ChatPrompt, Message, TextPrompt, Tool, ToolCall
from ownstudio.qwen.default_system import WithoutDefaultSystem
from ownstudio.qwen.plain_text import PlainText, unmarked, with_ends, without_ends
from ownstudio.qwen.template import ChatTemplate, TemplateError
from ownstudio.qwen.tokenizer import Tokenizer
from ownstudio.qwen.tools import template_tool

FIM_PREFIX, FIM_SUFFIX, FIM_MIDDLE = "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"
ARGUMENTS_DEPTH_MAX = 64
DEFINITION_DEPTH_MAX = 96
# What templates look up in a tool, where a mark would hide it: `name` is a part of the special token `<|repo_name|>`.
LOOKED_UP = frozenset(
    (
        *("type", "function", "name", "description", "parameters", "properties", "required"),
        *("items", "enum", "default", "additionalProperties", "anyOf", "oneOf", "allOf"),
        *("nullable", "const", "title", "format", "strict", "return", "$ref", "$defs"),
    )
)
DIGEST_BYTES = 16
THINK_OPEN = "<think>\n"
THINK_CLOSE = "\n</think>\n\n"


# A place in a conversation: the number of a message, and how many characters of its content stand before it.
Place = tuple[int, int]


class PromptEnd(Struct, frozen=True):
    """The prompt up to a place in it: how many tokens stand wholly before it, and a digest of the text.

    The digest leaves out spaces at the end. So it stays the same when more text follows in the message, which may
    become one token with what was last, and whether or not the template trims.
    """

    tokens: int
    digest: bytes


class Rendered(Struct, frozen=True):
    """A prompt's ids. `opens_thinking`: the model goes on inside a `<think>` that the prompt has opened.

    `ends` has an entry for each place that was asked for, None where the template did not keep it.
    """

    token_ids: list[TokenId]
    opens_thinking: bool = False
    ends: tuple[PromptEnd | None, ...] = ()


class PromptRenderer:
    """Renders for one model. May be used by several threads at once."""

    def __init__(self, template: ChatTemplate, tokenizer: Tokenizer) -> None:
        self._template = WithoutDefaultSystem(template, tokenizer.role_tokens)
        self._tokenizer = tokenizer
        names = frozenset(tokenizer.special_ids)
        self._outside = PlainText(names)
        self._assistant = PlainText(
            name
            for name in names
            if name in tokenizer.control or (name.startswith("<|") and name.endswith("|>"))
        )

    def render_chat(self, prompt: ChatPrompt, places: Sequence[Place] = ()) -> Rendered:
        """The whole conversation, up to where the model is to write, with the ends of `places` (see there)."""
        contents = [self._mark(message)(message.content) for message in prompt.messages]
        text = self._text(prompt, contents)
        closed = not prompt.messages[-1].partial
        opens_thinking = closed and text.rstrip().endswith(THINK_OPEN.rstrip())
        kept = self._kept(prompt, contents, places, text) if places else {}
        ids, counts = self._ids(text, "messages", sorted(set(kept.values())))
        if not places:
            return Rendered(ids, opens_thinking)
        digests = _digests(text, counts)
        ends = [
            PromptEnd(counts[kept[number]], digests[kept[number]]) if number in kept else None
            for number in range(len(places))
        ]
        return Rendered(ids, opens_thinking, tuple(ends))

    def render_text(self, prompt: TextPrompt) -> list[TokenId]:
        """The ids of a raw prompt, made a fill-in-the-middle prompt where it has a suffix."""
        if prompt.suffix is not None:
            ids = self._between(prompt.text, prompt.suffix)
        elif isinstance(prompt.text, str):
            ids = self._encoded(_with_middle(prompt.text), "prompt")
        else:
            ids = self._checked(prompt.text)
        if not ids:
            raise invalid_parameter("prompt", "The prompt must hold at least one token.")
        return ids

    def _text(self, prompt: ChatPrompt, contents: Sequence[str]) -> str:
        """What the template makes of the conversation; `contents` are those of its messages, already marked."""
        messages = prompt.messages
        open_turn = messages[-1] if messages[-1].partial else None
        closed = messages if open_turn is None else messages[:-1]
        try:
            text = self._template.render(
                {
                    **self._tokenizer.role_tokens,
                    "messages": [
                        self._message(message, contents[place], f"messages[{place}]")
                        for place, message in enumerate(closed)
                    ],
                    "tools": self._tools(prompt.tools),
                    "add_generation_prompt": True,
                    "enable_thinking": prompt.enable_thinking,
                    "preserve_thinking": prompt.preserve_thinking,
                }
            )
        except TemplateError as error:
            _refuse(error)
        return text if open_turn is None else self._opened(text, open_turn, contents[-1])

    def _kept(
        self, prompt: ChatPrompt, contents: Sequence[str], places: Sequence[Place], text: str
    ) -> dict[int, int]:
        """Where in `text`, the rendered conversation, each of `places` has come to stand, by its number."""
        contents = list(contents)
        tails: dict[int, str] = {}
        of_message: dict[int, list[tuple[int, int]]] = {}
        for number, (place, end) in enumerate(places):
            content = prompt.messages[place].content
            # A mark among the spaces around a content would keep a template from trimming them.
            first, last = len(content) - len(content.lstrip()), len(content.rstrip())
            if end > first:
                tails[number] = content[last:end]
                of_message.setdefault(place, []).append((min(end, last), number))
        for place, ends in of_message.items():
            contents[place] = with_ends(contents[place], sorted(ends))
        try:
            bare, found = without_ends(self._text(prompt, contents))
        except StudioError:
            return {}
        if bare != text:
            return {}
        return {
            number: at + len(tails[number]) * text.startswith(tails[number], at)
            for number, at in found.items()
        }

    def _tools(self, tools: tuple[Tool, ...]) -> list[Any] | None:
        """The tools as templates know them; none at all is not the same as an empty list to some."""
        try:
            return [
                self._marked_inside(template_tool(tool), DEFINITION_DEPTH_MAX) for tool in tools
            ] or None
        except RecursionError:
            raise invalid_parameter("tools", "A tool's definition is nested too deeply.") from None

    def _mark(self, message: Message) -> Callable[[str], str]:
        """What keeps the text of a message from becoming special tokens."""
        return self._assistant.marked if message.role == "assistant" else self._outside.marked

    def _message(self, message: Message, content: str, where: str) -> dict[str, Any]:
        """The message as templates know it; `content` is its own, marked."""
        shown: dict[str, Any] = {"role": message.role, "content": content}
        if message.reasoning is not None:
            shown["reasoning_content"] = self._mark(message)(message.reasoning)
        if message.tool_calls:
            shown["tool_calls"] = [
                self._tool_call(call, f"{where}.tool_calls[{place}]")
                for place, call in enumerate(message.tool_calls)
            ]
        if message.tool_call_id is not None:
            shown["tool_call_id"] = self._outside.marked(message.tool_call_id)
        if message.name is not None:
            shown["name"] = self._outside.marked(message.name)
        return shown

    def _tool_call(self, call: ToolCall, where: str) -> dict[str, Any]:
        arguments = _arguments(call.arguments, where)
        try:
            marked = self._marked_inside(arguments, ARGUMENTS_DEPTH_MAX)
        except RecursionError:
            raise invalid_parameter(
                "messages", f"{where}.function.arguments is nested too deeply."
            ) from None
        return {
            "id": self._outside.marked(call.id),
            "type": "function",
            "function": {
                "name": self._outside.marked(call.name),
                "arguments": marked,
            },
        }

    def _marked_inside(self, value: Any, depth: int) -> Any:
        if depth == 0:
            raise RecursionError
        match value:
            case str():
                return self._outside.marked(value)
            case dict():
                return {
                    key if key in LOOKED_UP else self._outside.marked(key): self._marked_inside(
                        item, depth - 1
                    )
                    for key, item in value.items()
                }
            case list():
                return [self._marked_inside(item, depth - 1) for item in value]
        return value

    def _opened(self, text: str, turn: Message, content: str) -> str:
        """`text` ends where an assistant begins; go on with what this one has written so far."""
        if turn.role != "assistant" or turn.tool_calls:
            raise invalid_parameter(
                "messages", "Only an assistant message without tool calls can be `partial`."
            )
        if turn.reasoning is not None:
            text = text.removesuffix(THINK_OPEN + THINK_CLOSE).removesuffix(THINK_OPEN)
            text += THINK_OPEN + self._assistant.marked(turn.reasoning).strip("\n") + THINK_CLOSE
        elif text.endswith(THINK_OPEN):
            # The template has the model think first; what is to be continued is its answer.
            text += THINK_CLOSE
        return text + content

    def _ids(
        self, text: str, param: str, ends: Sequence[int]
    ) -> tuple[list[TokenId], dict[int, int]]:
        """The ids, and how many of them stand wholly before each of `ends`, which come in order."""
        ids: list[TokenId] = []
        counts: dict[int, int] = {}
        at = 0
        for piece in self._tokenizer.split(text):
            if isinstance(piece, str):
                new: Sequence[TokenId] = self._encoded(unmarked(piece), param, specials=False)
            else:
                new = (piece,)
            if len(counts) < len(ends):
                shown = piece if isinstance(piece, str) else self._special(piece)
                within = [end - at for end in ends[len(counts) :] if end < at + len(shown)]
                for end, before in zip(
                    within, self._wholly_before(within, shown, new), strict=True
                ):
                    counts[at + end] = len(ids) + before
                at += len(shown)
            ids += new
        return ids, counts | dict.fromkeys(ends[len(counts) :], len(ids))

    def _special(self, token_id: TokenId) -> str:
        return self._tokenizer.token_bytes(token_id).decode()

    def _wholly_before(
        self, ends: Sequence[int], piece: str, ids: Sequence[TokenId]
    ) -> Iterator[int]:
        """How many of the `ids` of a piece of text stand before each of its places."""
        if not ends:
            return
        token_ends = list(accumulate(len(self._tokenizer.token_bytes(i)) for i in ids))
        whole = is_normalized("NFC", piece)
        done = length = 0
        for end in ends:
            if whole:
                length += len(unmarked(piece[done:end]).encode())
                done = end
            else:
                # What composes across two blocks belongs to neither: count the text as the tokenizer sees it.
                length = len(normalize("NFC", unmarked(piece[:end])).encode())
            yield bisect_right(token_ends, length)

    def _encoded(self, text: str, param: str, *, specials: bool = True) -> list[TokenId]:
        try:
            return self._tokenizer.encode(text, specials=specials)
        except StudioError as error:
            raise invalid_parameter(param, error.message) from None

    def _between(self, before: str | tuple[TokenId, ...], after: str) -> list[TokenId]:
        for param, text in (("prompt", before), ("suffix", after)):
            if isinstance(text, str) and any(
                mark in text for mark in (FIM_PREFIX, FIM_SUFFIX, FIM_MIDDLE)
            ):
                raise invalid_parameter(
                    param, f"With `suffix`, `{param}` cannot hold fill-in-the-middle tokens."
                )
        first, second, third = (self._fim_id(name) for name in (FIM_PREFIX, FIM_SUFFIX, FIM_MIDDLE))
        head = self._encoded(before, "prompt") if isinstance(before, str) else self._checked(before)
        return [first, *head, second, *self._encoded(after, "suffix"), third]

    def _fim_id(self, name: str) -> TokenId:
        try:
            return self._tokenizer.special_ids[name]
        except KeyError:
            raise invalid_parameter("suffix", "This model cannot fill in the middle.") from None

    def _checked(self, ids: tuple[TokenId, ...]) -> list[TokenId]:
        size = self._tokenizer.size
        for token_id in ids:
            if type(token_id) is not int or not 0 <= token_id < size:
                raise invalid_parameter("prompt", f"Range of token ids should be [0, {size - 1}]")
        return list(ids)


def _digests(text: str, ends: Iterable[int]) -> dict[int, bytes]:
    """A digest of `text` up to each of `ends`, which come in order, less the spaces there."""
    digest = blake2b(digest_size=DIGEST_BYTES)
    digests: dict[int, bytes] = {}
    done = 0
    for end in ends:
        last = len(text[:end].rstrip())
        digest.update(text[done:last].encode())
        digests[end] = digest.copy().digest()
        done = last
    return digests


def _with_middle(text: str) -> str:
    """A fill-in-the-middle prompt ends where the model is to write, also where the client left that out."""
    if FIM_SUFFIX not in text:
        return text
    if FIM_PREFIX not in text:
        raise invalid_parameter("prompt", f"{FIM_SUFFIX} needs {FIM_PREFIX} in front of it.")
    return text if FIM_MIDDLE in text else text + FIM_MIDDLE


def _arguments(text: str, where: str) -> dict[str, Any]:
    """The arguments of a call, which templates want as an object; no text at all is none."""
    if not text.strip():
        return {}
    try:
        arguments = json.loads(text, parse_constant=_not_json)
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        raise invalid_parameter(
            "messages", f"{where}.function.arguments must be a JSON object, written as text."
        )
    return arguments


def _not_json(constant: str) -> NoReturn:
    raise ValueError(constant)  # NaN and Infinity, which Python alone takes for numbers


def _refuse(error: TemplateError) -> NoReturn:
    if error.refused:
        raise invalid_parameter("messages", unmarked(str(error))) from None
    raise StudioError(ErrorKind.INTERNAL, str(error), detail=error.detail) from None
