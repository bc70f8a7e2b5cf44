"""Throws text that nearly is an answer at the output parser, cut anywhere: `python tests/qwen/fuzz_parser.py SECONDS`.

What must hold for any text and any cuts: the joined pieces do not depend on the cuts; the arguments of every call are a
JSON object; a call's arguments follow its start without a gap; no more calls than asked for; and where nothing was
called, every character is in some piece.
"""

import json
import random
import sys
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from ownstudio.core.request import Tool
from ownstudio.qwen.parser import OutputParser, Thinking
from ownstudio.qwen.pieces import CallArguments, CallStart, Piece, Reasoning, Text, joined
from ownstudio.qwen.tools import ToolSet, is_function_name

SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "days": {"type": "integer"},
        "unit": {"type": ["string", "null"]},
        "options": {"type": "object"},
        "exact": {"type": "boolean"},
        "anything": {},
    },
}
TOOLS = ToolSet([Tool("get_weather", parameters=json.dumps(SCHEMA)), Tool("now")])

FRAGMENTS = (
    "<think>", "</think>", "<tool_call>", "</tool_call>", "<function=", "<function=get_weather>",
    "<function=other>", "</function>", "<parameter=", "</parameter>", "<parameter=city>",
    "<parameter=days>", "<parameter=unit>", "<parameter=options>", "<parameter=exact>",
    "<parameter=anything>", "<tool_call>\n<function=get_weather>\n<parameter=city>\n",
    "\n</parameter>\n</function>\n</tool_call>",
    '<tool_call>\n{"name": "get_weather", "arguments": {', "}}\n</tool_call>",
    '{"name": "get_weather", "arguments": ', '{"arguments": {"a": 1}, "name": "now"}', '"name"',
    '"arguments"', '"now"', '"{\\"a\\": 1}"', "{", "}", "[", "]", ",", ":", '"', "\\", "\\u", "d83d", "de00",
    "\\ud83d\\ude00", "\\n", "\\'", "null", "None", "true", "True", "False", "NaN", "5", "-", "1.", "e5",
    " ", "\n", "\n\n", "\t", "<", ">", "</", "a", "text ", "天气", "\x00", "\r\n", "'",
)  # fmt: skip


def random_text(source: random.Random) -> str:
    return "".join(source.choices(FRAGMENTS, k=source.randint(1, 30)))


def random_cuts(source: random.Random, text: str) -> list[str]:
    places = sorted(source.randint(0, len(text)) for _ in range(source.randint(0, 12)))
    return [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]


def random_options(source: random.Random) -> dict[str, Any]:
    return {
        "thinking": source.choice(list(Thinking)),
        "tools": source.choice((TOOLS, TOOLS, TOOLS, None)),
        "calls_max": source.choice((1, 2, 128)),
    }


def parsed(chunks: Sequence[str], options: dict[str, Any]) -> list[Piece]:
    parser = OutputParser(**options)
    pieces = [piece for chunk in chunks for piece in parser.feed(chunk)]
    return joined(pieces + parser.finish())


def check(text: str, chunks: Sequence[str], options: dict[str, Any]) -> None:
    whole = parsed([text], options)
    assert parsed(chunks, options) == whole
    calls = 0
    for place, piece in enumerate(whole):
        match piece:
            case CallStart(call, name):
                assert call == calls
                assert is_function_name(name)
                assert isinstance(whole[place + 1], CallArguments)
                calls += 1
            case CallArguments(call, arguments):
                assert isinstance(whole[place - 1], CallStart)
                assert call == calls - 1
                assert isinstance(msgspec.json.decode(arguments), dict)
            case Text(said) | Reasoning(said):
                assert said
    assert calls <= options["calls_max"]
    if calls == 0:
        said = "".join(p.text for p in whole if isinstance(p, Text | Reasoning))
        assert _bare(said) == _bare(text)


def _bare(text: str) -> str:
    """Without what the parser drops around thinking."""
    return "".join(text.split()).replace("<think>", "").replace("</think>", "")


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(2**32)
    source = random.Random(seed)
    end = time.monotonic() + seconds
    count = 0
    while time.monotonic() < end:
        text, options = random_text(source), random_options(source)
        chunks = random_cuts(source, text)
        try:
            check(text, chunks, options)
        except AssertionError:
            print(f"seed {seed}, text {count}: {options}\n{chunks!r}")  # noqa: T201
            raise
        count += 1
    print(f"{count} texts, seed {seed}: all held")  # noqa: T201


if __name__ == "__main__":
    main()
