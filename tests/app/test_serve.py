"""The server as a process: how it starts, what it survives, and how it ends. Real engine, real signals."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.resources import files
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionChunk

from ownstudio.app.serve import ListenError, connections_max, listening
from support.instance import ServedInstance

ROW = {"type": "array", "items": {"enum": ["one", "two"]}, "minItems": 20, "maxItems": 20}
STREAM: dict[str, Any] = {
    "model": "qwen-plus",
    "messages": [{"role": "user", "content": "Count."}],
    "stream": True,
    # No model ends this answer before its thousandth token.
    "response_format": {
        "type": "json_schema",
        "json_schema": {
            "name": "numbers",
            "schema": {"type": "array", "items": ROW, "minItems": 30, "maxItems": 30},
        },
    },
}


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Closes what a test opened, whatever became of it."""
    with ExitStack() as stack:
        yield stack


def client(instance: ServedInstance) -> openai.OpenAI:
    opened = openai.OpenAI(base_url=instance.base_url, api_key=instance.key, max_retries=0)
    CLIENTS.append(opened)
    return opened


CLIENTS: list[openai.OpenAI] = []


@pytest.fixture(autouse=True)
def _clients_closed() -> Iterator[None]:
    yield
    while CLIENTS:
        CLIENTS.pop().close()


def started_stream(
    stack: ExitStack, instance: ServedInstance, max_tokens: int
) -> openai.Stream[ChatCompletionChunk]:
    """A stream whose first chunk has come."""
    asked: dict[str, Any] = STREAM | {"max_tokens": max_tokens}
    stream: openai.Stream[ChatCompletionChunk] = client(instance).chat.completions.create(**asked)
    stack.callback(stream.close)
    next(stream)
    return stream


def until(condition: Callable[[], bool], within_s: float = 10) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def workers(parent: int) -> list[int]:
    """The process ids of the children of `parent`."""
    found = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(parent)], capture_output=True, text=True
    )
    return [int(pid) for pid in found.stdout.split()]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_first_call_a_restart_and_a_key_made_beside_the_server(tmp_path: Path) -> None:
    with ServedInstance(tmp_path) as instance:
        assert (instance.data / "first-key").stat().st_mode & 0o777 == 0o600
        assert instance.data.stat().st_mode & 0o777 == 0o700
        first_key = instance.key
        answer = client(instance).chat.completions.create(
            model="qwen-plus", messages=[{"role": "user", "content": "Who are you?"}], max_tokens=8
        )
        assert answer.usage is not None
        assert answer.usage.prompt_tokens == 12
        made = subprocess.run(
            [sys.executable, "-m", "ownstudio", "key", "create", "--json"],
            env=instance.environment(),
            capture_output=True,
            check=True,
        )
        key = json.loads(made.stdout)["key"]
        beside = openai.OpenAI(base_url=instance.base_url, api_key=key, max_retries=0)
        assert beside.models.list().data
        assert instance.stop() == 0
    with ServedInstance(tmp_path) as instance:
        assert instance.key == first_key
        log = instance.log.read_text()
    assert first_key not in log
    assert "Who are you?" not in log.replace('"content": "Who are you?"', "")


def test_sigterm_lets_a_stream_finish(tmp_path: Path, stack: ExitStack) -> None:
    with ServedInstance(tmp_path) as instance:
        stream = started_stream(stack, instance, max_tokens=400)
        instance.process.send_signal(signal.SIGTERM)
        reasons = [chunk.choices[0].finish_reason for chunk in stream]
        assert reasons[-1] in ("stop", "length")
        assert instance.process.wait(10) == 0


def test_sigterm_ends_a_stream_with_an_error_event_when_the_grace_is_over(
    tmp_path: Path, stack: ExitStack
) -> None:
    settings = tmp_path / "ownstudio.toml"
    settings.write_text("[server]\nshutdown_grace_s = 0.2\n")
    with ServedInstance(tmp_path, "--config", str(settings)) as instance:
        stream = started_stream(stack, instance, max_tokens=8000)
        instance.process.send_signal(signal.SIGTERM)
        with pytest.raises(openai.APIError, match="shutting down"):
            for _ in stream:
                pass
        assert instance.process.wait(10) == 0


def test_a_second_sigterm_ends_at_once_and_leaves_no_worker(
    tmp_path: Path, stack: ExitStack
) -> None:
    with ServedInstance(tmp_path) as instance:
        started_stream(stack, instance, max_tokens=8000)
        (worker,) = workers(instance.process.pid)
        instance.process.send_signal(signal.SIGTERM)
        until(lambda: "stopping" in instance.log.read_text())
        instance.process.send_signal(signal.SIGTERM)
        assert instance.process.wait(2) == 1
        until(lambda: not alive(worker), within_s=2)


def test_kill_9_leaves_no_worker(tmp_path: Path) -> None:
    with ServedInstance(tmp_path) as instance:
        (worker,) = workers(instance.process.pid)
        instance.process.kill()
        instance.process.wait()
        until(lambda: not alive(worker), within_s=2)


def test_a_worker_that_is_killed_is_an_error_for_its_stream_and_the_next_request_is_answered(
    tmp_path: Path, stack: ExitStack
) -> None:
    with ServedInstance(tmp_path) as instance:
        here = client(instance)
        stream = started_stream(stack, instance, max_tokens=8000)
        (worker,) = workers(instance.process.pid)
        os.kill(worker, signal.SIGKILL)
        with pytest.raises(openai.APIError) as failure:
            for _ in stream:
                pass
        assert failure.value.code == "internal_server_error"
        again = here.chat.completions.create(
            model="qwen-plus", messages=[{"role": "user", "content": "hello"}], max_tokens=3
        )
        assert again.choices[0].finish_reason


def test_a_truncated_file_is_named_and_the_gateway_lives(tmp_path: Path) -> None:
    whole = Path(str(files("ownstudio") / "bundled" / "ownstudio-tiny.gguf"))
    cut = tmp_path / "cut.gguf"
    shutil.copyfile(whole, cut)
    os.truncate(cut, cut.stat().st_size - 1000)
    settings = tmp_path / "ownstudio.toml"
    settings.write_text(f'[deployments.mine]\nweights = "{cut}"\nroutes = ["*"]\n')
    instance = ServedInstance(tmp_path, "--config", str(settings))
    try:
        instance.start(health=503)
        with pytest.raises(openai.InternalServerError) as refusal:
            client(instance).chat.completions.create(
                model="qwen-plus", messages=[{"role": "user", "content": "hello"}]
            )
        assert refusal.value.status_code == 503
        assert str(cut.parent) not in refusal.value.message
        assert "cut.gguf" in instance.log.read_text()
        assert client(instance).models.list().data
    finally:
        instance.stop()


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with ServedInstance(tmp_path) as instance:
        port = instance.address.rpartition(":")[2]
        second = subprocess.run(
            [sys.executable, "-m", "ownstudio", "serve", "--port", port],
            env=instance.environment(),
            capture_output=True,
            text=True,
            timeout=20,
        )
        assert second.returncode == 1
        assert port in second.stderr
        assert "--port" in second.stderr


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("no-such-host.invalid", "no-such-host.invalid"),
        ("x" * 64 + ".invalid", "label"),
        ("192.0.2.1", "192.0.2.1 port 0: Cannot assign requested address"),
    ],
)
def test_a_host_that_is_not_here_ends_the_start_with_a_sentence(
    tmp_path: Path, host: str, reason: str
) -> None:
    ended = serve_to_the_end(tmp_path, "--port", "0", "--host", host)
    assert ended.returncode == 1
    assert reason in ended.stderr
    assert "--host" in ended.stderr
    assert "answers on" not in ended.stdout


def test_a_host_may_be_a_name(tmp_path: Path) -> None:
    with ServedInstance(tmp_path, "--host", "localhost") as instance:
        assert client(instance).models.list().data
        assert f"Ownstudio answers on {instance.address}" in instance.log.read_text()


async def test_a_server_that_cannot_listen_raises_instead_of_saying_that_it_does() -> None:
    async def application(*_: object) -> None:
        raise AssertionError("nobody can call it")

    with pytest.raises(ListenError, match=r"^cannot listen on localhost port 1: invalid IP"):
        async with listening(application, "localhost", 1):
            pass


def test_a_server_that_ends_by_itself_ends_the_program_with_an_error(tmp_path: Path) -> None:
    dying = """
        import asyncio, sys
        import ownstudio.app
        from ownstudio.cli.main import app

        module = sys.modules["ownstudio.app.serve"]

        class Dying(module.Server):
            async def serve(self):
                asyncio.get_running_loop().call_later(1.0, self.stop)
                await super().serve()

        module.Server = Dying
        sys.argv = ["ownstudio", "serve", "--port", "0"]
        app()
    """
    ended = run_to_the_end(tmp_path, "-c", textwrap.dedent(dying))
    assert ended.returncode == 1
    assert "the HTTP server ended by itself" in ended.stderr


@pytest.mark.parametrize(
    ("files", "connections"),
    [(1024, 768), (256, 128), (20_000, 16_384), (resource.RLIM_INFINITY, 16_384)],
)
def test_connections_leave_files_for_the_rest(files: int, connections: int) -> None:
    assert connections_max(files) == connections


def test_the_server_may_have_as_many_open_files_as_it_is_granted(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(512, soft), hard))
    try:
        with ServedInstance(tmp_path) as instance:
            pid = instance.process.pid
            assert resource.prlimit(pid, resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def serve_to_the_end(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A start that ends by itself."""
    return run_to_the_end(home, "-m", "ownstudio", "serve", *arguments)


def run_to_the_end(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=home,
        env=ServedInstance(home).environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_first_key_is_one_of_the_region_that_the_server_plays(tmp_path: Path):
    with ServedInstance(tmp_path, environment={"OWNSTUDIO_REGIONS": "beijing"}) as served:
        with openai.OpenAI(base_url=served.base_url, api_key=served.key) as client:
            names = {model.id for model in client.models.list()}
    assert "qwen2.5-coder-32b-instruct" in names
