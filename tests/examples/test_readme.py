"""What the README tells its reader to paste works as it stands, but for the port."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from support.instance import User

README = Path(__file__).parents[2] / "README.md"
DEFAULT_ADDRESS = "http://127.0.0.1:8000"


class Block(NamedTuple):
    language: str
    code: str


def blocks() -> list[Block]:
    found = re.findall(
        r"^```(\w+)\n(.*?)^```$", README.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    return [Block(language, code) for language, code in found]


def runnable(language: str, wanted: Callable[[str], bool] = lambda _: True) -> list[str]:
    return [code for found, code in blocks() if found == language and wanted(code)]


def test_there_is_a_first_call_in_python_and_curl() -> None:
    assert runnable("python")
    assert runnable("sh", lambda code: "curl " in code)


@pytest.mark.parametrize("code", runnable("python"))
def test_python_blocks_run(user: User, tmp_path: Path, code: str) -> None:
    program = tmp_path / "first_call.py"
    program.write_text(code.replace(DEFAULT_ADDRESS, user.served.address), "utf-8")
    assert user.run([sys.executable, program]).strip()


@pytest.mark.parametrize("code", runnable("sh", lambda code: "curl " in code))
def test_curl_blocks_run(user: User, code: str) -> None:
    output = user.run(["sh", "-ec", code.replace(DEFAULT_ADDRESS, user.served.address)])
    assert '"object":"chat.completion"' in output.replace(" ", "")
    assert '"error"' not in output
