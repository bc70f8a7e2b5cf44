"""The releases of the vendor's Python SDK that judge us, each driven in a process and environment of its own.

Without `DASHSCOPE_TEST_SDKS` it is the one installed beside the tests; with it, the releases that it names, found
under `.venv/sdks` where `make test-sdks` puts them.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

AGENT = Path(__file__).with_name("dashscope_agent.py")
INSTALLED = "installed"
RELEASES = os.environ.get("DASHSCOPE_TEST_SDKS", "").split() or [INSTALLED]
ANSWER_S_MAX = 60


class Sdk:
    """One release. Each method answers what the SDK returned, one by one, or raises what it raised."""

    def __init__(self, release: str) -> None:
        prefix = Path(sys.prefix)
        python = (
            Path(sys.executable)
            if release == INSTALLED
            else prefix / "sdks" / release / "bin" / "python"
        )
        self._process = subprocess.Popen(
            [python, AGENT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")},
            encoding="utf-8",
        )
        self.version = tuple(
            int(part) for part in str(self._ask("version", {})["told"][0]).split(".")
        )

    def close(self) -> None:
        self._process.communicate(timeout=10)

    def _ask(self, action: str, arguments: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": action, "arguments": arguments}) + "\n")
        self._process.stdin.flush()
        outcome: dict[str, Any] = json.loads(self._process.stdout.readline())
        return outcome

    async def outcome(self, action: str, /, **arguments: Any) -> dict[str, Any]:
        asking = asyncio.to_thread(self._ask, action, arguments)
        return await asyncio.wait_for(asking, ANSWER_S_MAX)

    async def use(self, address: str, key: str) -> None:
        """Point the SDK at a server, such as http://127.0.0.1:8000."""
        await self.call(
            "setup",
            http=f"{address}/api/v1",
            socket=f"{address.replace('http', 'ws', 1)}/api-ws/v1/inference",
            key=key,
        )

    async def call(self, action: str, /, **arguments: Any) -> list[dict[str, Any]]:
        outcome = await self.outcome(action, **arguments)
        assert "raised" not in outcome, outcome["raised"]
        told: list[dict[str, Any]] = outcome["told"]
        return told


@pytest.fixture(scope="session", params=RELEASES)
def sdk(request: pytest.FixtureRequest) -> Iterator[Sdk]:
    driven = Sdk(request.param)
    yield driven
    driven.close()
