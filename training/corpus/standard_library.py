"""Short functions from Python's own standard library: real code, for variety (PSF-2.0)."""

from __future__ import annotations

import ast
import sysconfig
from functools import cache
from pathlib import Path
from textwrap import dedent

from training.corpus.source import Source
from training.vocabulary import common_share

MODULES = (
    "textwrap",
    "shlex",
    "bisect",
    "heapq",
    "string",
    "statistics",
    "fractions",
    "random",
    "calendar",
    "copy",
    "csv",
    "fnmatch",
    "glob",
    "shutil",
    "keyword",
    "linecache",
    "operator",
    "posixpath",
    "pprint",
    "queue",
    "reprlib",
    "sched",
    "stat",
    "tempfile",
    "types",
    "contextlib",
    "collections",
    "functools",
    "colorsys",
    "configparser",
    "dataclasses",
    "difflib",
    "filecmp",
    "fileinput",
    "genericpath",
    "getopt",
    "graphlib",
    "gettext",
    "hmac",
    "imghdr",
    "numbers",
    "quopri",
    "secrets",
)
PLAINEST = 0.85  # of a function's tokens must be frequent ones
LONGEST = 700  # characters; longer functions cost more context than they teach


@cache
def functions() -> tuple[str, ...]:
    root = Path(sysconfig.get_path("stdlib"))
    found: list[str] = []
    for module in MODULES:
        for path in (root / f"{module}.py", root / module / "__init__.py"):
            if path.is_file():
                found += _functions_of(path.read_text(encoding="utf-8"))
    return tuple(found)


def _functions_of(text: str) -> list[str]:
    rows = text.splitlines()
    found: list[str] = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef) and node.end_lineno is not None:
            code = dedent("\n".join(rows[node.lineno - 1 : node.end_lineno]))
            if code.count("\n") >= 2 and len(code) <= LONGEST and common_share(code) >= PLAINEST:
                found.append(code)
    return found


def function(source: Source) -> str:
    return source.random.choice(functions())
