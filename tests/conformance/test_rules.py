"""Each rule sees the breach that it is there for."""

import json
from typing import Any

import pytest

from ownstudio.conformance import rules
from ownstudio.conformance.case import Answer, Rule
from ownstudio.conformance.exchange import frames
from ownstudio.conformance.shapes import Fields, Text

ID = "3de690bd-ae7f-461d-8eb6-d65b0577e803"
STREAM = {"content-type": "text/event-stream;charset=UTF-8", "x-request-id": ID}


def found(rule: Rule, body: bytes, headers: dict[str, str] = STREAM) -> list[str]:
    answer = Answer(200, headers, body)
    return list(rule(answer, frames(body)))


def native(*texts: str, reasons: list[str] | None = None, tokens: list[int] | None = None) -> bytes:
    """A native stream of these texts."""
    reasons = reasons or ["null"] * (len(texts) - 1) + ["stop"]
    tokens = tokens or list(range(1, len(texts) + 1))
    return b"".join(
        f"id:{number}\nevent:result\n:HTTP_STATUS/200\ndata:".encode()
        + json.dumps(
            {
                "output": {"text": text, "finish_reason": reason},
                "usage": {
                    "input_tokens": 3,
                    "output_tokens": count,
                    "total_tokens": 3 + count,
                },
                "request_id": ID,
            }
        ).encode()
        + b"\n\n"
        for number, (text, reason, count) in enumerate(zip(texts, reasons, tokens, strict=True), 1)
    )


def test_a_good_native_stream_has_no_differences() -> None:
    for rule in (*rules.NATIVE_STREAM, rules.cumulative):
        assert found(rule, native("a", "ab", "ab")) == []
    for rule in (*rules.NATIVE_STREAM, rules.incremental):
        assert found(rule, b": keep-alive\n\n" + native("a", "b", "")) == []


@pytest.mark.parametrize(
    ("rule", "body"),
    [
        (rules.native_frames, b""),
        (rules.native_frames, native("a").replace(b"event:result", b"event: result")),
        (rules.native_frames, native("a").replace(b"id:1", b"id:0")),
        (rules.native_frames, native("a").replace(b"data:{", b"data: {")),
        (rules.native_frames, native("a").replace(b":HTTP_STATUS/200\n", b"")),
        (rules.native_reasons, native("a", "b", reasons=["stop", "stop"])),
        (rules.native_reasons, native("a", "b", reasons=["null", "null"])),
        (rules.native_reasons, native("a").replace(b'"stop"', b"null")),
        (rules.running_usage, native("a", "b", tokens=[2, 1])),
        (rules.running_usage, native("a").replace(b"output_tokens", b"completion")),
        (rules.usage_adds_up, native("a").replace(b'"total_tokens": 4', b'"total_tokens": 5')),
        (rules.cumulative, native("a", "b", "")),
        (rules.incremental, native("a", "ab", "abc", "abc")),
        (rules.incremental, native("a", "b", "c")),
        (rules.one_request_id, native("a").replace(ID.encode(), b"another")),
    ],
)
def test_breaches_of_a_native_stream(rule: Rule, body: bytes) -> None:
    assert found(rule, body)


def openai(*chunks: dict[str, Any], done: bool = True) -> bytes:
    head = {"id": f"chatcmpl-{ID}", "created": 1, "model": "m"}
    lines = [f"data: {json.dumps(head | chunk)}\n\n" for chunk in chunks]
    return ("".join(lines) + ("data: [DONE]\n\n" if done else "")).encode()


def chunk(content: str = "", reason: str | None = None, **delta: Any) -> dict[str, Any]:
    return {
        "choices": [{"index": 0, "delta": {"content": content} | delta, "finish_reason": reason}],
        "usage": None,
    }


FIRST = chunk(role="assistant")
USAGE = {
    "choices": [],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
}


def test_a_good_openai_stream_has_no_differences() -> None:
    for rule in (*rules.OPENAI_STREAM, rules.no_usage):
        assert found(rule, openai(FIRST, chunk("a"), chunk(reason="stop"))) == []
    for rule in (*rules.OPENAI_STREAM, rules.usage_at_the_end):
        assert found(rule, openai(FIRST, chunk("a"), chunk(reason="stop"), USAGE)) == []


@pytest.mark.parametrize(
    ("rule", "body"),
    [
        (rules.openai_frames, b""),
        (rules.openai_frames, openai(FIRST, done=False)),
        (rules.openai_frames, b"event: x\n" + openai(FIRST)),
        (rules.openai_frames, openai(FIRST).replace(b"data: {", b"data:{")),
        (rules.openai_deltas, openai(chunk("a"), chunk(reason="stop"))),
        (rules.openai_deltas, openai(FIRST, chunk("a"))),
        (rules.openai_deltas, openai(FIRST, chunk(reason="stop"), chunk(reason="stop"))),
        (rules.openai_deltas, openai(FIRST, chunk(reason="stop") | {"id": "other"})),
        (rules.no_usage, openai(FIRST, USAGE)),
        (rules.usage_at_the_end, openai(FIRST, chunk(reason="stop"))),
        (rules.usage_at_the_end, openai(FIRST | {"usage": USAGE["usage"]}, USAGE)),
        (
            rules.usage_adds_up,
            openai(USAGE).replace(b'"total_tokens": 3', b'"total_tokens": 4'),
        ),
    ],
)
def test_breaches_of_an_openai_stream(rule: Rule, body: bytes) -> None:
    assert found(rule, body)


def test_headers() -> None:
    assert found(rules.json_type, b"{}", {"content-type": "text/plain"})
    assert found(rules.event_stream_type, b"", {"content-type": "application/json"})
    assert found(rules.one_request_id, b"{}", {})
    assert not found(rules.one_request_id, b"{}", {"x-request-id": ID})


def test_a_refused_stream_may_be_json_or_an_event() -> None:
    rule = rules.StreamRefusal(Fields(code=Text("InvalidParameter")))
    good = b'{"code":"InvalidParameter"}'
    assert not found(rule, good)
    assert not found(rule, b"id:1\nevent:error\n:HTTP_STATUS/400\ndata:" + good + b"\n\n")
    assert not found(rule, b"data: " + good)
    assert found(rule, b"oops")
    assert found(rule, b'{"code":"Other"}')
