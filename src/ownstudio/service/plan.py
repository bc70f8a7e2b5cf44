"""How a request will be run, before any engine is woken: its token ids, how its text is read, what constrains it."""

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from ownstudio.catalog import Model
from ownstudio.context_cache.layout import Layout
from ownstudio.context_cache.prefix import CacheBlock, Prefix, Wanted, prefix_of, wanted
from ownstudio.core.errors import ErrorKind, StudioError, invalid_parameter
from ownstudio.core.events import TokenId
from ownstudio.core.request import ChatPrompt, GenerationRequest, TextPrompt, Tool
from ownstudio.qwen.family import Family, ThinkingKind
from ownstudio.qwen.grammar import Grammar, call_grammar, call_or_json_grammar, json_grammar
from ownstudio.qwen.parser import CALLS_MAX, OutputParser, Thinking
from ownstudio.qwen.render import Rendered
from ownstudio.qwen.stop import StopMatcher
from ownstudio.qwen.thinking_switch import switched
from ownstudio.qwen.tokenizer import Tokenizer
from ownstudio.qwen.tools import ToolForm, ToolSet
from ownstudio.service.deployment import Deployment

NO_GRAMMAR = Grammar("")
# What every Qwen template opens a turn with.
TURN_TOKEN = "<|im_start|>"


class Plan(Struct, frozen=True):
    """`input_max` is how many tokens the model takes; `warnings` tell what of a client's schemas is not enforced.
    `prefix` is the prompt as the context cache knows it. `thinks`: the answer begins with thinking, and counts so."""

    token_ids: list[TokenId]
    prefix: Prefix
    input_max: int
    stop: StopMatcher
    thinking: Thinking | None = None
    thinks: bool = False
    tools: tuple[Tool, ...] = ()
    calls_max: int = CALLS_MAX
    grammar: str = ""
    grammar_trigger: str = ""
    warnings: tuple[str, ...] = ()

    def parser(self) -> OutputParser | None:
        """What reads one choice; None where all text is the answer."""
        if self.thinking is None:
            return None
        tools = ToolSet(self.tools)
        return OutputParser(thinking=self.thinking, tools=tools, calls_max=self.calls_max)


def plan(request: GenerationRequest, deployment: Deployment, model: Model) -> Plan:
    """Raises StudioError for what cannot be rendered or constrained."""
    prompt = request.prompt
    stop = StopMatcher(request.stop)
    if not isinstance(prompt, ChatPrompt):
        check_length(prompt, model.input_max, deployment)
        token_ids = deployment.renderer.render_text(prompt)
        return Plan(token_ids, prefix_of(token_ids), model.input_max, stop)
    if model.thinking.prompt_switch:
        prompt = switched(prompt)
    if prompt.tool_choice.mode == "none":
        prompt = msgspec.structs.replace(prompt, tools=())
    if prompt.messages[-1].partial and request.response_format.kind != "text":
        # The grammar would have to begin in the middle of what the client wrote.
        raise invalid_parameter("response_format", "response_format cannot be used with partial.")
    input_max = model.thinking_input_max if prompt.enable_thinking else model.input_max
    check_length(prompt, input_max, deployment)
    family = deployment.family
    ends = wanted(prompt.messages)
    rendered = deployment.renderer.render_chat(prompt, [(end.message, end.end) for end in ends])
    grammar = _grammar(request, prompt, family)
    thinking = _thinking(family, opened=rendered.opens_thinking)
    return Plan(
        token_ids=rendered.token_ids,
        prefix=_prefix(prompt, rendered, ends, deployment.tokenizer),
        thinking=thinking,
        # Some templates leave it to the model to open its thinking once it is asked to think.
        thinks=thinking is Thinking.OPEN or (thinking is Thinking.MAY and prompt.enable_thinking),
        input_max=input_max,
        stop=stop,
        tools=prompt.tools,
        calls_max=CALLS_MAX if prompt.parallel_tool_calls else 1,
        grammar=grammar.text,
        grammar_trigger=grammar.trigger or "",
        warnings=grammar.warnings,
    )


def too_long(prompt: ChatPrompt | TextPrompt, input_max: int) -> StudioError:
    return StudioError(
        ErrorKind.CONTEXT_TOO_LONG,
        f"Range of input length should be [1, {input_max}]",
        param="messages" if isinstance(prompt, ChatPrompt) else "prompt",
        from_engine=True,
    )


def check_length(prompt: ChatPrompt | TextPrompt, input_max: int, deployment: Deployment) -> None:
    """Refuse what cannot fit, before tokenizing it takes seconds and a gigabyte. Raises StudioError."""
    bound = min(input_max, deployment.context - 1)
    if prompt.characters > bound * deployment.tokenizer.longest_token:
        raise too_long(prompt, bound)


def _prefix(
    prompt: ChatPrompt, rendered: Rendered, ends: Sequence[Wanted], tokenizer: Tokenizer
) -> Prefix:
    blocks = [
        CacheBlock(end.tokens, end.digest, place.marked)
        for place, end in zip(ends, rendered.ends, strict=True)
        if end is not None
    ]
    return prefix_of(
        rendered.token_ids,
        turn=tokenizer.special_ids.get(TURN_TOKEN),
        blocks=blocks if ends else None,
        layout=Layout(
            prompt, rendered.token_ids, lambda text: tokenizer.encode(text, specials=False)
        ),
    )


def _thinking(family: Family, *, opened: bool) -> Thinking:
    if opened:
        return Thinking.OPEN
    return Thinking.NEVER if family.thinking is ThinkingKind.NONE else Thinking.MAY


def _grammar(request: GenerationRequest, prompt: ChatPrompt, family: Family) -> Grammar:
    """Calls are constrained where one is forced or once the model opens one; answers where a format is asked for.

    A forced call leaves no answer in words, and so nothing that a format could hold.
    """
    answer = request.response_format
    choice = prompt.tool_choice
    schema = answer.schema if answer.kind == "json_schema" else None
    if not prompt.tools:
        return NO_GRAMMAR if answer.kind == "text" else json_grammar(schema)
    form = family.tool_form or ToolForm.JSON
    offered = [tool for tool in prompt.tools if choice.name in (None, tool.name)]
    several = prompt.parallel_tool_calls and choice.name is None
    lazy = choice.mode == "auto"
    if lazy and answer.kind != "text":
        return call_or_json_grammar(offered, form, schema, several=several)
    return call_grammar(offered, form, lazy=lazy, several=several)
