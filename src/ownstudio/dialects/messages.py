"""The conversation of a chat request: each message, and the order they may stand in.

Content is text, or a list of text parts, which are joined. `developer` is another word for `system`.
A tool message needs an assistant's tool calls before it; its `tool_call_id` may be missing, as it is in
the vendor's own samples, but must not name a call that was never made. An assistant message without
text is fine where it calls tools or says `null` outright, or `[]` as the multimodal path writes it.
Fields that no table knows are reported, not refused, since clients append whole answers with whatever
these hold.

A `cache_control` of type `ephemeral` on a part marks what to cache. On a message it means nothing, as on the real
service; how long a block is kept is the server's to say, so whatever else a mark holds is reported.
"""

from collections.abc import Sequence
from itertools import accumulate

from ownstudio.core.errors import StudioError, invalid_parameter
from ownstudio.core.request import Block, Message, Role, ToolCall
from ownstudio.dialects.fields import (
    Fields,
    boolean,
    malformed,
    missing,
    read_object,
    text,
    wrong_type,
)

MESSAGES_MAX = 10_000

_ROLES: dict[object, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}

_ANY = frozenset({"role", "content", "name", "cache_control", "partial"})
_KNOWN: dict[Role, frozenset[str]] = {
    "system": _ANY,
    "user": _ANY,
    "assistant": _ANY
    | {"tool_calls", "reasoning_content", "annotations", "audio", "function_call", "refusal"},
    "tool": _ANY | {"tool_call_id"},
}

# What the answers of other services may hold, and no template here can say again.
_UNSPEAKABLE = ("audio", "function_call", "refusal")

# The keys by which DashScope's own parts name what is no text.
_MEDIA = ("image", "video", "audio", "file")

_ROLE_RULE = (
    'Role must be in ["user","assistant","system","tool"] and the role in last message must be in '
    '["user","tool"], or "assistant" with "partial": true'
)
_CONTENT_REQUIRED = "The content field is a required field."
_TOOL_UNMATCHED = (
    'messages with role "tool" must be a response to a preceeding message with "tool_calls".'
)
_CALLS_UNANSWERED = (
    'An assistant message with "tool_calls" must be followed by tool messages responding to each '
    '"tool_call_id".'
)
_EPHEMERAL_RULE = "The 'type' of cache_control must be 'ephemeral'."
_ARGUMENTS_RULE = 'The "function.arguments" parameter of the code model must be in JSON format.'


def read_messages(fields: Fields, ignored: list[str]) -> tuple[Message, ...]:
    """The conversation; the names of unknown message fields are added to `ignored`."""
    items = fields.get("messages")
    if items is None:
        raise missing("messages")
    if type(items) is not list:
        raise wrong_type("messages", "Array")
    if not items:
        raise malformed("messages", "[] is too short")
    if len(items) > MESSAGES_MAX:
        raise invalid_parameter(
            "messages", f"Range of messages length should be [1, {MESSAGES_MAX}]"
        )
    messages = tuple([_message(item, index, ignored) for index, item in enumerate(items)])
    _check_order(messages)
    return messages


def _message(item: object, index: int, ignored: list[str]) -> Message:
    if type(item) is not dict:
        raise malformed(
            f"messages[{index}]", "Input should be a valid dictionary or instance of GPT3Message"
        )
    word = item.get("role")
    role = _ROLES.get(word) if type(word) is str else None
    if role is None:
        raise invalid_parameter(f"messages[{index}].role", _ROLE_RULE)
    content = item.get("content")
    if len(item) == 2 and type(content) is str:
        return Message(role, content)
    return _full_message(item, role, f"messages[{index}]", ignored)


def _full_message(item: Fields, role: Role, path: str, ignored: list[str]) -> Message:
    try:
        ignored += [
            f"messages[].{name}"
            for name, value in item.items()
            if name not in _KNOWN[role] and value is not None
        ]
        tool_calls = _tool_calls(item.get("tool_calls")) if role == "assistant" else ()
        for name in _UNSPEAKABLE:
            if role == "assistant" and item.get(name) is not None:
                raise malformed(name, f"The message field '{name}' is not supported.")
        content, blocks = _content(item, role, bool(tool_calls), ignored)
        return Message(
            role=role,
            content=content,
            reasoning=text(item, "reasoning_content") if role == "assistant" else None,
            tool_calls=tool_calls,
            tool_call_id=text(item, "tool_call_id") or None if role == "tool" else None,
            name=text(item, "name"),
            partial=boolean(item, "partial"),
            blocks=blocks,
        )
    except StudioError as error:
        error.param = f"{path}.{error.param}"
        raise


def _content(
    item: Fields, role: Role, calls_tools: bool, ignored: list[str]
) -> tuple[str, tuple[Block, ...]]:
    content = item.get("content")
    if type(content) is str:
        return content, ()
    if content is None or content == []:
        if role == "assistant" and ("content" in item or calls_tools):
            return "", ()
        raise invalid_parameter("content", _CONTENT_REQUIRED)
    if type(content) is not list:
        raise malformed("content", "input content must be a string.")
    parts = [_part(part, place, ignored) for place, part in enumerate(content)]
    whole = "".join([words for words, _ in parts])
    if len(parts) == 1 and not parts[0][1]:
        return whole, ()
    ends = accumulate(len(words) for words, _ in parts)
    return whole, tuple([Block(end, mark) for end, (_, mark) in zip(ends, parts, strict=True)])


def _part(part: object, place: int, ignored: list[str]) -> tuple[str, bool]:
    """The text of one part, and whether it is marked to be cached.

    A part is `{"type": "text", "text": …}`, or without its type as DashScope clients write it.
    """
    kind = _kind(part) if type(part) is dict else None
    if type(part) is not dict or type(kind) is not str:
        raise malformed(
            "content",
            "The provided messages input is invalid. The error info is "
            "[Unexpected item type in content.]",
        )
    if kind != "text":
        raise malformed("content", f"Content of type '{kind[:40]}' is not supported: only text is.")
    value = part.get("text")
    if type(value) is not str:
        raise malformed("content", "'text' must be String")
    control = part.get("cache_control")
    return value, control is not None and _marked(
        control, f"content[{place}].cache_control", ignored
    )


def _marked(control: object, path: str, ignored: list[str]) -> bool:
    """Whether the prompt is to be cached up to this part."""
    if type(control) is not dict:
        raise wrong_type(path, "Object")
    if control.get("type") != "ephemeral":
        raise invalid_parameter(path, _EPHEMERAL_RULE)
    ignored += [f"messages[].content[].cache_control.{name}" for name in control if name != "type"]
    return True


def _kind(part: Fields) -> object:
    """What a part holds; one without a type names its medium by a key."""
    if "type" in part:
        return part["type"]
    return next((medium for medium in _MEDIA if medium in part), "text")


def _tool_calls(calls: object) -> tuple[ToolCall, ...]:
    if calls is None:
        return ()
    if type(calls) is not list:
        raise wrong_type("tool_calls", "Array")
    return tuple([_tool_call(call) for call in calls])


def _tool_call(call: object) -> ToolCall:
    function = call.get("function") if type(call) is dict else None
    if type(call) is not dict or type(function) is not dict:
        raise wrong_type("tool_calls", "Array of objects with a function")
    if call.get("type") not in (None, "function"):
        raise malformed("tool_calls", "Tool calls must be of type 'function'.")
    name = text(function, "name")
    if not name:
        raise malformed("tool_calls", "Tool calls must name their function.")
    return ToolCall(name, _arguments(function), text(call, "id") or "")


def _arguments(function: Fields) -> str:
    """Templates take arguments apart, so the text must be a JSON object; none at all is an empty one."""
    arguments = text(function, "arguments") or "{}"
    try:
        read_object(arguments.encode())
    except StudioError:
        raise invalid_parameter("tool_calls", _ARGUMENTS_RULE) from None
    return arguments


def _check_order(messages: Sequence[Message]) -> None:
    roles = [message.role for message in messages]
    if roles == ["system"]:
        raise invalid_parameter(
            "messages",
            'The messages list should not contain only one message with role "system". '
            "Please include at least one other role in the messages.",
        )
    if "system" in roles[1:]:
        raise invalid_parameter("messages", 'The role "system" is only allowed in messages[0].')
    if "user" not in roles:
        raise invalid_parameter(
            "messages", "The input messages do not contain elements with the role of user"
        )
    *earlier, last = messages
    if any(message.partial for message in earlier) or (last.partial and last.role != "assistant"):
        raise invalid_parameter(
            "messages",
            '"partial": true is only allowed in the last message, with role "assistant".',
        )
    if last.role == "assistant":
        if not last.partial:
            raise invalid_parameter("messages", _ROLE_RULE)
        if last.tool_calls:
            raise invalid_parameter("messages", 'A "partial" message cannot hold "tool_calls".')
    if "tool" in roles or any(message.tool_calls for message in messages):
        _check_tool_messages(messages)


def _check_tool_messages(messages: Sequence[Message]) -> None:
    """Every tool message answers a call of the assistant before it, and every call is answered."""
    open_calls = 0
    answers = 0
    ids: set[str] = set()
    for message in messages:
        if message.role == "tool":
            if not open_calls or (ids and message.tool_call_id and message.tool_call_id not in ids):
                raise invalid_parameter("messages", _TOOL_UNMATCHED)
            answers += 1
            continue
        if answers < open_calls:
            break
        ids = {call.id for call in message.tool_calls if call.id}
        open_calls, answers = len(message.tool_calls), 0
    if answers < open_calls:
        raise invalid_parameter("messages", _CALLS_UNANSWERED)
