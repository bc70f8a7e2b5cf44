"""The pack against Ownstudio itself, and against servers that are not what they should be."""

import json
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from ownstudio.conformance import Target, Unreachable, cases_for, run_cases
from support.instance import ServedInstance

CONTEXT = {"OWNSTUDIO_DEPLOYMENTS__OWNSTUDIO_TINY__CONTEXT": "512"}


def command(user_environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ownstudio", "conformance", *arguments],
        check=False,
        capture_output=True,
        env=user_environment,
        encoding="utf-8",
        stdin=subprocess.DEVNULL,
        timeout=120,
    )


def test_ownstudio_answers_as_the_real_service(tmp_path: Path) -> None:
    with ServedInstance(tmp_path / "home", environment=CONTEXT) as instance:
        environment = instance.environment()
        done = command(environment, instance.address, "--key", instance.key, "--json")
        told = json.loads(done.stdout)
        differing = [case for case in told["cases"] if not case["passed"]]
        assert differing == []
        assert done.returncode == 0
        assert told["passed"] == len(cases_for(None))
        keyed = environment | {"DASHSCOPE_API_KEY": instance.key}
        table = command(keyed, instance.address, "--dialect", "dashscope")
        count = len(cases_for("dashscope"))
        assert f"{count} of {count} cases pass" in table.stdout
        assert instance.key not in table.stdout


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["http://127.0.0.1:9"], 2),
        (["http://127.0.0.1:9", "--key", "k"], 1),
        (["http://127.0.0.1:9/api/v1", "--key", "k"], 2),
        (["127.0.0.1:9", "--key", "k"], 2),
    ],
)
def test_what_cannot_be_asked(tmp_path: Path, arguments: list[str], status: int) -> None:
    environment = {"PATH": "", "PYTHONPATH": ":".join(sys.path), "HOME": str(tmp_path)}
    done = command(environment, *arguments)
    assert done.returncode == status
    assert done.stderr.startswith("error: ")


@asynccontextmanager
async def serving(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> AsyncGenerator[Target, None]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        port = runner.addresses[0][1]
        yield Target(f"http://127.0.0.1:{port}", "key", "qwen-plus", "coder")
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    "answer",
    [
        {"text": "not JSON"},
        {"text": "{}", "content_type": "application/json"},
        {"text": "[1]", "content_type": "application/json"},
        {"text": "data: [DONE]\n\n", "content_type": "text/event-stream"},
        {"text": "{}", "status": 401},
    ],
)
async def test_a_server_that_says_one_thing_to_everything(answer: Any) -> None:
    async def handler(_: web.Request) -> web.StreamResponse:
        return web.Response(**answer)

    async with serving(handler) as target:
        outcomes = [outcome async for outcome in run_cases(target, cases_for(None))]
    assert len(outcomes) == len(cases_for(None))
    passed = {outcome.name for outcome in outcomes if outcome.passed}
    # Of a wrong path without a key nothing but the status is known.
    assert passed <= {"a wrong path without a key"}
    for outcome in outcomes:
        assert all(difference for difference in outcome.differences)


async def test_each_key_is_shown_where_it_should_be() -> None:
    shown: dict[str, set[str | None]] = {}

    async def handler(request: web.Request) -> web.StreamResponse:
        shown.setdefault(request.path, set()).add(request.headers.get("authorization"))
        return web.Response(text="{}")

    async with serving(handler) as target:
        async for _ in run_cases(target, cases_for("dashscope")):
            pass
    assert shown["/api/v1/services/aigc/text-generation/generation"] == {
        None,
        "Bearer key",
        "Bearer sk-this-key-does-not-exist",
    }


async def test_nobody_there() -> None:
    with pytest.raises(Unreachable):
        async for _ in run_cases(Target("http://127.0.0.1:9", "k", "m", "c"), cases_for(None)):
            pass


def test_every_case_says_where_it_is_known_from() -> None:
    cases = cases_for(None)
    assert {case.dialect for case in cases} == {"openai", "dashscope"}
    assert all(case.source for case in cases)
    for dialect in ("openai", "dashscope"):
        names = [case.name for case in cases if case.dialect == dialect]
        assert len(names) == len(set(names))
