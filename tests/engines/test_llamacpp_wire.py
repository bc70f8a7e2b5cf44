"""Bodies and events of llama.cpp's completion endpoint, without a server."""

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ownstudio.core.request import EngineRequest, Sampling
from ownstudio.engines.base import Chunk, EngineFacts, EngineFinish
from ownstudio.engines.llamacpp_wire import (
    ChoiceReader,
    CompletionEvent,
    decode_error,
    decode_event,
    encode_request,
    engine_seed,
)

FACTS = EngineFacts(context=512, slots=4)


def request(**fields: object) -> EngineRequest:
    return msgspec.structs.replace(
        EngineRequest(token_ids=[1, 2], sampling=Sampling(), max_tokens=8), **fields
    )


def body(**sampling: object) -> dict[str, object]:
    encoded = encode_request(request(sampling=Sampling(**sampling)), FACTS)  # type: ignore[arg-type]
    decoded: dict[str, object] = msgspec.json.decode(encoded)
    return decoded


def event(
    index: int = 0, content: str = "", tokens: tuple[int, ...] = (), predicted: int = 0
) -> CompletionEvent:
    return CompletionEvent(index=index, content=content, tokens=tokens, tokens_predicted=predicted)


def end(stop_type: str, predicted: int, index: int = 0, cached: int = 0) -> CompletionEvent:
    return CompletionEvent(
        index=index,
        stop=True,
        stop_type=stop_type,
        tokens_predicted=predicted,
        cached_tokens=cached,
    )


def feed_all(reader: ChoiceReader, *events: CompletionEvent) -> list[Chunk]:
    return [chunk for one in events for chunk in reader.feed(one)]


def test_greedy_is_the_strongest_token_after_penalties() -> None:
    written = body(temperature=0.0, top_k=40, presence_penalty=1.0)
    assert (written["samplers"], written["top_k"]) == (["penalties", "top_k"], 1)


def test_top_k_goes_before_temperature_and_top_p() -> None:
    assert body(temperature=0.7, top_k=20, top_p=0.8)["samplers"] == [
        "top_k",
        "temperature",
        "top_p",
    ]


def test_without_top_k_only_a_vanishing_tail_is_cut() -> None:
    written = body(temperature=0.7, top_k=0)
    assert written["samplers"] == ["temperature", "min_p", "top_p"]
    assert written["min_p"] == 1e-10


def test_no_default_of_the_server_is_left_in_force() -> None:
    written = body()
    for name in (
        "top_k",
        "top_p",
        "min_p",
        "temperature",
        "repeat_penalty",
        "repeat_last_n",
        "typical_p",
        "mirostat",
    ):
        assert name in written


def test_penalties_reach_over_the_whole_context() -> None:
    assert body(repetition_penalty=1.05)["repeat_last_n"] == FACTS.context
    assert body()["repeat_last_n"] == 0


def test_the_trigger_of_a_lazy_grammar_may_be_a_single_token() -> None:
    lazy = msgspec.json.decode(
        encode_request(
            request(grammar='root ::= "<tool_call>"', grammar_trigger="<tool_call>"), FACTS
        )
    )
    assert lazy["grammar_lazy"]
    assert lazy["grammar_triggers"] == [{"value": "<tool_call>", "type": 1}]
    assert lazy["preserved_tokens"] == ["<tool_call>"]
    forced = msgspec.json.decode(encode_request(request(grammar='root ::= "a"'), FACTS))
    assert (forced["grammar_lazy"], forced["preserved_tokens"]) == (False, [])


@given(st.integers(0, 2**64 - 1), st.integers(0, 15))
def test_no_choice_of_any_seed_becomes_the_engines_random_seed(seed: int, choice: int) -> None:
    assert engine_seed(seed) + choice < 2**32 - 1


@given(st.integers(0, 2**32 - 18))
def test_a_small_seed_stays_itself(seed: int) -> None:
    assert engine_seed(seed) == seed


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"token_ids": []}, "token_ids"),
        ({"token_ids": [1, -1]}, "token_ids"),
        ({"token_ids": [2**31]}, "token_ids"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 2**31}, "max_tokens"),
        ({"n": 0}, "n"),
        ({"n": 5}, "n"),
        ({"top_logprobs": -1}, "top_logprobs"),
        ({"sampling": Sampling(temperature=math.nan)}, "temperature"),
        ({"sampling": Sampling(top_p=0.0)}, "top_p"),
        ({"sampling": Sampling(top_k=-1)}, "top_k"),
        ({"sampling": Sampling(presence_penalty=math.inf)}, "presence_penalty"),
        ({"sampling": Sampling(repetition_penalty=0.0)}, "repetition_penalty"),
        ({"sampling": Sampling(seed=-1)}, "seed"),
    ],
)
def test_a_number_that_native_code_must_not_see_is_refused_by_name(
    fields: dict[str, object], named: str
) -> None:
    with pytest.raises(ValueError, match=rf"range: {named}$"):
        encode_request(request(**fields), FACTS)


def test_the_end_token_is_neither_counted_nor_shown() -> None:
    reader = ChoiceReader(request())
    chunks = feed_all(
        reader,
        event(content="Hi", tokens=(7,), predicted=1),
        event(tokens=(99,), predicted=2),
        end("eos", 2),
    )
    assert [(c.text, c.token_ids, c.tokens, c.finish) for c in chunks] == [
        ("Hi", (7,), 1, None),
        ("", (), 1, EngineFinish.END_TOKEN),
    ]


def test_a_token_without_text_that_is_no_end_is_kept_in_order() -> None:
    reader = ChoiceReader(request())
    chunks = feed_all(
        reader,
        event(tokens=(90,), predicted=1),
        event(tokens=(91,), predicted=2),
        event(content="a", tokens=(5,), predicted=3),
        event(tokens=(92,), predicted=4),
        end("limit", 4, cached=6),
    )
    assert [i for c in chunks for i in c.token_ids] == [90, 91, 5, 92]
    assert chunks[-1] == Chunk(
        choice=0, text="", token_ids=(), tokens=4, finish=EngineFinish.LIMIT, cached_tokens=6
    )


def test_a_count_jumps_over_tokens_that_were_not_sent() -> None:
    reader = ChoiceReader(request())
    chunks = feed_all(reader, event(content="🙂", tokens=(3,), predicted=4), end("limit", 4))
    assert (chunks[0].tokens, len(chunks[0].token_ids)) == (4, 1)


def test_a_progress_report_is_no_token() -> None:
    reader = ChoiceReader(request())
    report = b'{"index":0,"content":"","tokens":[0],"stop":false,"prompt_progress":{"total":9}}'
    assert reader.feed(decode_event(report)) == []
    assert not reader.started


def test_choices_end_one_by_one() -> None:
    reader = ChoiceReader(request(n=2))
    reader.feed(end("limit", 0, index=1))
    assert reader.open_choices == 1
    with pytest.raises(ValueError, match="choice 1"):
        reader.feed(event(index=1, content="x"))
    reader.feed(end("limit", 0, index=0))
    assert reader.open_choices == 0


def test_an_unreadable_refusal_still_has_words() -> None:
    assert decode_error(b"<html>").message == "the engine gave no reason"
    assert decode_error(b'{"error":{"code":400,"message":"no"}}').message == "no"
