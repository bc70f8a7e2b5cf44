"""Any text, cut anywhere, means the same; and plain text costs next to nothing, however long it is."""

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ownstudio.core.request import Stop
from ownstudio.qwen.parser import OutputParser, Thinking
from ownstudio.qwen.stop import StopMatcher
from qwen.fuzz_parser import FRAGMENTS, TOOLS, check, random_cuts, random_options, random_text

texts = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=4), max_size=25).map("".join)
options = st.fixed_dictionaries(
    {
        "thinking": st.sampled_from(Thinking),
        "tools": st.sampled_from([TOOLS, None]),
        "calls_max": st.sampled_from([1, 128]),
    }
)


@given(texts, options, st.data())
@settings(max_examples=300, deadline=None)
def test_the_cuts_do_not_matter(text: str, chosen: dict[str, object], data: st.DataObject) -> None:
    places = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=10)))
    chunks = [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]
    check(text, chunks, chosen)


def test_the_fuzzer_runs() -> None:
    source = random.Random(7)
    for _ in range(1000):
        text = random_text(source)
        check(text, random_cuts(source, text), random_options(source))


def microseconds_per_chunk(chunks: list[str], count: int = 50_000) -> float:
    parser = OutputParser(tools=TOOLS)
    matcher = StopMatcher(Stop(texts=("\n\nUser:", "</s>")))
    parser.feed("x" * 1_000_000)
    begun = time.process_time()
    for number in range(count):
        parser.feed(matcher.feed(chunks[number % len(chunks)]))
    return (time.process_time() - begun) / count * 1e6


def test_plain_text_costs_at_most_3_microseconds_a_chunk() -> None:
    words = [" the", " quick", " brown fox", " jumps over", " the lazy", " dog."]
    assert min(microseconds_per_chunk(words) for _ in range(3)) <= 3.0


@pytest.mark.parametrize("flood", ["\n", " ", "<", "<t", "{", "}", "[", "\\", "0", '"', "n", "</"])
@pytest.mark.parametrize(
    "opening",
    [
        "",
        "<tool_call>",
        "<tool_call>{",
        '<tool_call>{"name": "now", "arguments": {"a": ',
        '<tool_call>{"name": "now", "arguments": {"a": "',
        '<tool_call>{"arguments": {"a": "',
        '<tool_call>{"name": "now", "arguments": {}}',
        "<tool_call><function=get_weather>",
        "<tool_call><function=get_weather><parameter=",
        "<tool_call><function=get_weather><parameter=city>",
        "<tool_call><function=get_weather><parameter=unit>",
        "<tool_call><function=get_weather><parameter=options>",
    ],
)
def test_no_flood_of_one_token_makes_it_slow(flood: str, opening: str) -> None:
    """Work that grew with what came before would take minutes here."""
    for thinking in (Thinking.OPEN, Thinking.MAY):
        parser = OutputParser(thinking=thinking, tools=TOOLS)
        parser.feed(opening)
        begun = time.process_time()
        for _ in range(1_500):
            parser.feed(flood)
        assert (time.process_time() - begun) / 1_500 < 50e-6
        parser.finish()
