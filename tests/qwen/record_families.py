"""Writes what publishers' chat templates make of our conversations; see tests/support/families.py.

    PYTHONPATH=tests .venv/bin/python tests/qwen/record_families.py DIRECTORY

DIRECTORY holds FAMILY.jinja files. They are rendered with plain Jinja, set up as publishers' examples do.
"""

import hashlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import jinja2
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from support.families import HERE, Part, conversations, digest, variables

# In a system turn with tools: their declaration, from the last <tools> that ends its line.
_DECLARED = re.compile(r"(?s).*(<tools>\n.*\n</tools>)")
_SYSTEM = "<|im_start|>system\n"
_END = "<|im_end|>\n"


def parts_of(text: str, conversation: dict[str, Any]) -> list[Part]:
    """`text` in parts, those of the publisher as digests. They stand in the system turn alone."""
    if not text.startswith(_SYSTEM):
        return [text]
    body, end, rest = text.removeprefix(_SYSTEM).partition(_END)
    first = conversation["messages"][0]
    ours = {first["content"]} if first["role"] == "system" else set()
    if declared := _DECLARED.match(body):
        ours.add(declared[1])
    pieces = re.split(f"({'|'.join(map(re.escape, ours))})", body) if ours else [body]
    parts: list[Part] = [_SYSTEM]
    for piece in pieces:
        # Line breaks around a sentence are structure.
        sentence = piece.strip("\n")
        if piece in ours or not sentence:
            parts.append(piece)
        else:
            before, _, after = piece.partition(sentence)
            parts += [before, digest(sentence), after]
    return joined([*parts, end + rest])


def joined(parts: list[Part]) -> list[Part]:
    """The same parts, no text next to another."""
    out: list[Part] = []
    for part in parts:
        if isinstance(part, str) and out and isinstance(out[-1], str):
            out[-1] += part
        elif part:
            out.append(part)
    return out


def plain_jinja(source: str) -> jinja2.Template:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    environment.globals["raise_exception"] = _refuse
    return environment.from_string(source)


class Refused(Exception):
    """The template refuses the conversation."""


def _refuse(message: str) -> None:
    raise Refused(message)


def _recorded(template: jinja2.Template, conversation: dict[str, Any]) -> list[Part] | None:
    try:
        return parts_of(template.render(variables(conversation)), conversation)
    except Refused:
        return None


def _record(directory: Path) -> None:
    for path in sorted(directory.glob("*.jinja")):
        with path.open(newline="") as file:
            source = file.read()
        template = plain_jinja(source)
        found = {
            name: _recorded(template, conversation)
            for name, conversation in conversations().items()
        }
        record = {
            "template_sha256": hashlib.sha256(source.encode()).hexdigest(),
            "rendered": found,
        }
        target = HERE / f"{path.stem}.json"
        target.write_text(json.dumps(record, ensure_ascii=False, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    _record(Path(sys.argv[1]))
