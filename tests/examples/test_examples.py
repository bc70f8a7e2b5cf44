"""Every sample in `examples/` runs as its reader would run it, against a served instance, and says something."""

import json
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from support.instance import User

PAGES = Path(__file__).parents[2] / "examples" / "pages"
# The samples draw their tokens, so an answer may happen to end before its first word: once, not thrice.
TRIES = 3

Json = dict[str, Any]
Judge = Callable[[str], None]


class SilentError(AssertionError):
    """The answer holds no word."""


def check_says(text: str) -> None:
    if not text.strip():
        raise SilentError("the answer is empty")


def check_usage(usage: Json) -> None:
    assert usage["prompt_tokens"] > 0
    assert usage["completion_tokens"] > 0
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def check_chat(output: str) -> None:
    answer = json.loads(output)
    (choice,) = answer["choices"]
    assert answer["object"] == "chat.completion"
    assert answer["model"].startswith("qwen")
    assert re.fullmatch(r"chatcmpl-[0-9a-f-]{36}", answer["id"])
    assert choice["message"]["role"] == "assistant"
    check_says(choice["message"]["content"])
    assert choice["finish_reason"] in ("stop", "length")
    check_usage(answer["usage"])


def check_completion(output: str) -> None:
    answer = json.loads(output)
    (choice,) = answer["choices"]
    assert answer["object"] == "text_completion"
    assert answer["model"] == "qwen2.5-coder-32b-instruct"
    check_says(choice["text"])
    assert choice["finish_reason"] in ("stop", "length")
    check_usage(answer["usage"])


def check_chunks(chunks: list[Json], *, with_usage: bool) -> None:
    with_choices = [chunk for chunk in chunks if chunk["choices"]]
    without = [chunk for chunk in chunks if not chunk["choices"]]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in chunks}) == 1
    deltas = [chunk["choices"][0] for chunk in with_choices]
    assert deltas[0]["delta"]["role"] == "assistant"
    check_says("".join(delta["delta"].get("content") or "" for delta in deltas))
    assert [delta["finish_reason"] for delta in deltas[:-1]] == [None] * (len(deltas) - 1)
    assert deltas[-1]["finish_reason"] in ("stop", "length")
    assert all(chunk.get("usage") is None for chunk in with_choices)
    if with_usage:
        assert without == chunks[-1:]
        check_usage(without[0]["usage"])
    else:
        assert without == []


def check_chunk_lines(output: str) -> None:
    check_chunks([json.loads(line) for line in output.splitlines()], with_usage=True)


def check_events(output: str, *, with_usage: bool) -> None:
    *events, done, rest = output.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    chunks = [json.loads(event.removeprefix("data: ")) for event in events]
    check_chunks(chunks, with_usage=with_usage)


def check_report(output: str) -> None:
    """The text as it came, then the three counts, as the streamed samples of Qwen-Coder print them."""
    found = re.fullmatch(
        r"={20}Response={20}\n(.*)\n={20}Token Usage={20}\n"
        r"Input Tokens: (\d+)\nOutput Tokens: (\d+)\nTotal Tokens: (\d+)\n",
        output,
        re.DOTALL,
    )
    assert found, output
    text, prompt, completion, total = found.groups()
    check_says(text)
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total}
    check_usage({name: int(count) for name, count in usage.items()})


def check_langchain_answer(output: str) -> None:
    message = json.loads(output)
    assert message["type"] == "ai"
    check_says(message["content"])
    check_usage(message["response_metadata"]["token_usage"])


def check_langchain_chunks(output: str) -> None:
    chunks = [json.loads(line) for line in output.splitlines()]
    assert {chunk["type"] for chunk in chunks} == {"AIMessageChunk"}
    check_says("".join(chunk["content"] for chunk in chunks))
    (usage,) = (chunk["usage_metadata"] for chunk in chunks if chunk["usage_metadata"])
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"] > 0


def check_native_usage(usage: Json) -> None:
    assert usage["input_tokens"] > 0
    assert usage["output_tokens"] > 0
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]


def check_native(output: str) -> None:
    answer = json.loads(output)
    assert re.fullmatch(r"[0-9a-f-]{36}", answer["request_id"])
    (choice,) = answer["output"]["choices"]
    assert choice["message"]["role"] == "assistant"
    assert choice["finish_reason"] in ("stop", "length", "tool_calls")
    check_says(choice["message"]["content"] or json.dumps(choice["message"].get("tool_calls", "")))
    check_native_usage(answer["usage"])


def check_native_events(output: str) -> None:
    *events, rest = output.split("\n\n")
    assert rest == ""
    text = ""
    for number, event in enumerate(events, 1):
        head, data = event.split("\ndata:")
        assert head == f"id:{number}\nevent:result\n:HTTP_STATUS/200"
        answer = json.loads(data)
        (choice,) = answer["output"]["choices"]
        text += choice["message"]["content"]
        ended = choice["finish_reason"] in ("stop", "length")
        assert ended == (number == len(events))
        assert ended or choice["finish_reason"] == "null"
        check_native_usage(answer["usage"])
    check_says(text)


NATIVE: dict[str, Judge] = {
    "dashscope_coder": check_says,
    "dashscope_coder_stream": check_report,
    "dashscope_coder_partial": check_says,
}
CODE: dict[str, Judge] = {
    "coder": check_says,
    "coder_stream": check_report,
    "coder_partial": check_says,
    "completions_prefix": check_says,
    "completions_middle": check_says,
    "coder_completions_prefix": check_says,
    "coder_completions_middle": check_says,
}
PYTHON: dict[str, Judge] = (
    CODE
    | NATIVE
    | {
        "chat": check_chat,
        "chat_stream": check_chunk_lines,
        "langchain_invoke": check_langchain_answer,
        "langchain_stream": check_langchain_chunks,
    }
)
CURL: dict[str, Judge] = {
    "chat": check_chat,
    "chat_stream": lambda output: check_events(output, with_usage=False),
    "coder": check_chat,
    "coder_stream": lambda output: check_events(output, with_usage=True),
    "coder_partial": check_chat,
    "completions_prefix": check_completion,
    "completions_middle": check_completion,
    "coder_completions_prefix": check_completion,
    "coder_completions_middle": check_completion,
    "dashscope_coder": check_native,
    "dashscope_coder_stream": check_native_events,
    "dashscope_coder_partial": check_native,
}
# Judged in test_tool_loops.py.
LOOPS = {
    "python": {"chat_tools", "coder_tools", "dashscope_coder_tools"},
    "node": {"coder_tools"},
    "curl": {"coder_tools", "dashscope_coder_tools"},
}


@pytest.mark.parametrize(
    ("folder", "ending", "judges"),
    [("python", "py", PYTHON), ("node", "mjs", CODE), ("curl", "sh", CURL)],
)
def test_every_sample_is_judged(folder: str, ending: str, judges: dict[str, Judge]) -> None:
    samples = {path.stem for path in (PAGES / folder).glob(f"*.{ending}")}
    assert samples == judges.keys() | LOOPS[folder]


def judge(
    verdict: Judge, user: User, command: Sequence[str | Path], cwd: Path | None = None
) -> None:
    for _ in range(TRIES - 1):
        with suppress(SilentError):
            verdict(user.run(command, cwd))
            return
    verdict(user.run(command, cwd))


@pytest.mark.parametrize("name", PYTHON)
def test_python(user: User, name: str) -> None:
    judge(PYTHON[name], user, [sys.executable, PAGES / "python" / f"{name}.py"])


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl on this machine")
@pytest.mark.parametrize("name", CURL)
def test_curl(user: User, name: str) -> None:
    judge(CURL[name], user, [PAGES / "curl" / f"{name}.sh"])


@pytest.mark.parametrize("name", CODE)
def test_node(user: User, node: Path, name: str) -> None:
    judge(CODE[name], user, ["node", node / f"{name}.mjs"], cwd=node)
