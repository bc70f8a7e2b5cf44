"""One choice, by itself: whatever the chunks, the same events; and no stop text ends a call."""

from itertools import count

from hypothesis import given, settings
from hypothesis import strategies as st

from ownstudio.context_cache.prefix import prefix_of
from ownstudio.core.events import (
    Completion,
    Done,
    Event,
    TokenLogprob,
    Usage,
    collect,
)
from ownstudio.core.request import GenerationRequest, Stop, TextPrompt, Tool
from ownstudio.engines.base import Chunk, EngineFinish
from ownstudio.qwen.parser import Thinking
from ownstudio.qwen.stop import StopMatcher
from ownstudio.service.choice import Choice
from ownstudio.service.plan import Plan
from support.studio import MODEL, tokenizer

TOOLS = (Tool("now"), Tool("say", parameters='{"properties":{"text":{"type":"string"}}}'))
FRAGMENTS = (
    "<think>", "</think>", "<tool_call>", "</tool_call>", "<function=", "<function=say>", "</function>",
    "<parameter=text>", "</parameter>", '<tool_call>\n{"name": "say", "arguments": {"text": "', '"}}\n</tool_call>',
    '{"name": "now"}', '"', "{", "}", "\\n", "\n", " ", "Note:", "No", "te:", "# ", ">", ">>", "=", "text",
)  # fmt: skip
STOPS = (
    "Note:", "\n# No", "# ", "\n", "\n\n", ">>>", ">\n{", "}", "=", "=s", '"', "<tool_call>", "</tool_call>",
    "_call>\n{x", '<tool_call>\n{"name": "x', "<function=say>\n\n", "</think>", "</tool_call>\nNo", "text",
)  # fmt: skip

texts = st.lists(st.sampled_from(FRAGMENTS), max_size=16).map("".join)
stops = st.lists(st.sampled_from(STOPS), max_size=3).map(tuple)


def answer(
    chunks: list[str],
    stop: Stop,
    *,
    thinking: Thinking = Thinking.NEVER,
    tools: tuple[Tool, ...] = TOOLS,
) -> Completion:
    request = GenerationRequest(MODEL.name, TextPrompt(""), MODEL.defaults, stop=stop)
    plan = Plan([], prefix_of([]), 1, StopMatcher(stop), thinking=thinking, tools=tools)
    ids = count()
    choice = Choice(0, request, tokenizer(), plan, lambda: str(next(ids)))
    events: list[Event] = []
    for tokens, text in enumerate(chunks, 1):
        logprob = TokenLogprob(text, tuple(text.encode()), -0.5)
        choice.feed(Chunk(0, text, (tokens,), tokens, logprobs=(logprob,)), events)
    choice.feed(Chunk(0, "", (), len(chunks), finish=EngineFinish.END_TOKEN), events)
    return collect([*events, Done(Usage(1, 1))])


def meaning(completion: Completion) -> tuple[object, ...]:
    (choice,) = completion.choices
    return choice.text, choice.reasoning, choice.tool_calls, choice.finish_reason


@settings(max_examples=300, deadline=None)
@given(texts, stops, st.sampled_from(Thinking), st.data())
def test_the_cuts_do_not_matter(
    text: str, stops: tuple[str, ...], thinking: Thinking, data: st.DataObject
) -> None:
    places = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=10)))
    chunks = [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]
    stop = Stop(texts=stops)
    whole = meaning(answer([text], stop, thinking=thinking))
    assert meaning(answer(list(text), stop, thinking=thinking)) == whole
    assert meaning(answer(chunks, stop, thinking=thinking)) == whole


@settings(max_examples=300, deadline=None)
@given(texts, stops, st.sampled_from(Thinking))
def test_a_call_is_what_it_is_without_stops_or_is_not_made(
    text: str, stops: tuple[str, ...], thinking: Thinking
) -> None:
    (stopped,) = answer([text], Stop(texts=stops), thinking=thinking).choices
    (unstopped,) = answer([text], Stop(), thinking=thinking).choices
    made = len(stopped.tool_calls)
    assert stopped.tool_calls == unstopped.tool_calls[:made]


def test_log_probabilities_belong_to_the_text_around_calls() -> None:
    call = '<tool_call>\n{"name": "now"}\n</tool_call>'
    chunks = ["a", " >", ">", " b", *call, " c", " >", " No", "te", ":"]
    (choice,) = answer(chunks, Stop(texts=("Note:", ">>>", '"'))).choices
    assert choice.text == "a >> b c > "
    assert [entry.token for entry in choice.logprobs] == ["a", " >", ">", " b", " c", " >"]


def test_what_may_begin_a_stop_and_never_becomes_one_is_all_told() -> None:
    for tools in (TOOLS, ()):
        (choice,) = answer(["I see", " Ob"], Stop(texts=("Observation:",)), tools=tools).choices
        assert choice.text == "I see Ob"
        assert [entry.token for entry in choice.logprobs] == ["I see", " Ob"]


def test_a_stop_of_token_ids_inside_a_call_loses_nothing_of_it() -> None:
    chunks = ["I ask. ", "<tool_call>", "{", '"name": ', '"now"', "}", "</tool_call>", " Well", "."]
    # The tag is held back, since with what follows it may be a stop; what follows is one by itself.
    (choice,) = answer(chunks, Stop(token_ids=((2, 9), (3,), (8,)))).choices
    assert [call.name for call in choice.tool_calls] == ["now"]
    assert choice.text == "I ask. "
