"""What is asked, free of any dialect: validated, frozen, every default resolved.

A dialect makes a `GenerationRequest` from a body and a catalogue row; `qwen` turns its prompt into token
ids; an engine sees only an `EngineRequest`.
"""

from typing import Literal

from msgspec import Struct

from ownstudio.core.events import TokenId
from ownstudio.core.events import ToolCall as ToolCall  # part of a request too

TURN_CHARACTERS = 16

Role = Literal["system", "user", "assistant", "tool"]


class Tool(Struct, frozen=True):
    """A function that the model may call.

    `parameters` is the JSON text of its schema, "{}" where it takes none; `definition` that of the whole
    tool as the client sent it, which is what templates show to the model. Texts, so that tools are
    immutable and can be keys of a cache.
    """

    name: str
    description: str = ""
    parameters: str = "{}"
    definition: str = ""


class ToolChoice(Struct, frozen=True):
    """Whether the model may call, must call, or must call the function `name` (then `mode` is "required")."""

    mode: Literal["auto", "none", "required"] = "auto"
    name: str | None = None


class ResponseFormat(Struct, frozen=True):
    """What the answer has to be: any text, a JSON object, or JSON that fits `schema` (JSON text)."""

    kind: Literal["text", "json_object", "json_schema"] = "text"
    schema: str = ""
    name: str = ""
    strict: bool = False


class Block(Struct, frozen=True):
    """A part of a message's content, up to its character `end`; `marked` asks to cache the prompt as far as there."""

    end: int
    marked: bool = False


class Message(Struct, frozen=True):
    """One turn. `content` is text with its parts already joined.

    `blocks` tells where each part ends; content that came as one unmarked text has none.
    """

    role: Role
    content: str
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None
    partial: bool = False
    blocks: tuple[Block, ...] = ()

    @property
    def characters(self) -> int:
        """About how much there is to render: a turn is a few tokens long, whatever it holds.

        Names and ids count as well, since a template may show them and no client has to keep them short.
        """
        names = len(self.name or "") + len(self.tool_call_id or "")
        calls = sum(len(call.id) + len(call.name) + len(call.arguments) for call in self.tool_calls)
        return TURN_CHARACTERS + len(self.content) + len(self.reasoning or "") + names + calls


class ChatPrompt(Struct, frozen=True):
    """A conversation, to be rendered by the model's own chat template.

    Without `parallel_tool_calls` an answer holds at most one call. `preserve_thinking` keeps the
    reasoning of earlier turns in the prompt.
    """

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = ToolChoice()
    parallel_tool_calls: bool = False
    enable_thinking: bool = False
    preserve_thinking: bool = False

    @property
    def characters(self) -> int:
        """About how much there is to render."""
        return sum(message.characters for message in self.messages) + sum(
            len(tool.definition) for tool in self.tools
        )


class TextPrompt(Struct, frozen=True):
    """Raw text (special tokens count as such) or token ids; `suffix` asks for the middle (FIM)."""

    text: str | tuple[TokenId, ...]
    suffix: str | None = None

    @property
    def characters(self) -> int:
        """About how much there is to tokenize."""
        return len(self.text) + len(self.suffix or "") if isinstance(self.text, str) else 0


class Sampling(Struct, frozen=True):
    """How tokens are drawn. `temperature` 0 is greedy, `top_k` 0 is off, `seed` None is random."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None


class Stop(Struct, frozen=True):
    """Where a client wants the answer to end: texts, or sequences of token ids. Never both."""

    texts: tuple[str, ...] = ()
    token_ids: tuple[tuple[TokenId, ...], ...] = ()

    @property
    def characters(self) -> int:
        """About how much there is to look for."""
        return sum(map(len, self.texts)) + sum(map(len, self.token_ids))


class GenerationRequest(Struct, frozen=True):
    """One request for `n` answers of at most `max_tokens` tokens each from `model`.

    `max_tokens` None means as many as the model may write. `top_logprobs` None means no log
    probabilities at all, 0 those of the chosen tokens alone.

    Where the model thinks, `max_tokens` bounds the answer alone, `thinking_budget` the thinking and
    `max_completion_tokens` both together; None leaves each to the model.
    """

    model: str
    prompt: ChatPrompt | TextPrompt
    sampling: Sampling
    max_tokens: int | None = None
    n: int = 1
    stop: Stop = Stop()
    top_logprobs: int | None = None
    thinking_budget: int | None = None
    max_completion_tokens: int | None = None
    response_format: ResponseFormat = ResponseFormat()


class EngineRequest(Struct, frozen=True):
    """What an engine is told: token ids in, at most `max_tokens` out, `n` times from one prefill.

    `grammar`, in llama.cpp's notation, holds the text that is written; with a `grammar_trigger` only from
    that text on, which the grammar then begins with.
    """

    token_ids: list[TokenId]
    sampling: Sampling
    max_tokens: int
    n: int = 1
    top_logprobs: int | None = None
    grammar: str = ""
    grammar_trigger: str = ""
