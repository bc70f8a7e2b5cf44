"""The real thing: `ownstudio serve` in a process of its own, as its operator starts it, and a user who calls it."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import ownstudio

HOST = "127.0.0.1"
START_S_MAX = 60.0
STOP_S_MAX = 20.0
RUN_S_MAX = 120.0
POLL_S = 0.05
LOG_BYTES_SHOWN = 8192


class ServedInstance:
    """A server on a free port with a home of its own; `with` starts it and stops it.

    `home` is what the server and its users have as home directory, so `~/.local/share/ownstudio` is its data.
    """

    def __init__(
        self, home: Path, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> None:
        self.home = home
        self.data = home / ".local" / "share" / "ownstudio"
        self.log = home / "serve.log"
        self.address = f"http://{HOST}:{_free_port()}"
        self._arguments = arguments
        self._environment = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def base_url(self) -> str:
        """Where the OpenAI dialect answers."""
        return f"{self.address}/compatible-mode/v1"

    @property
    def native_base_url(self) -> str:
        """Where the native dialect answers."""
        return f"{self.address}/api/v1"

    @property
    def key(self) -> str:
        """The key that the first start made."""
        return (self.data / "first-key").read_text("utf-8").strip()

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "the server has not been started"
        return self._process

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self, health: int = 200) -> None:
        """Start the server and wait until `/health` has that status. Raises AssertionError with the end of its log."""
        self.home.mkdir(parents=True, exist_ok=True)
        port = self.address.rpartition(":")[2]
        command = (sys.executable, "-m", "ownstudio", "serve", "--port", port, *self._arguments)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self.home,  # no ownstudio.toml of the working directory is read by accident
                env=self.environment() | {"PYTHONUNBUFFERED": "1"} | self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + START_S_MAX
        while self.health() != health:
            assert self.process.poll() is None, f"the server ended:\n{self.log_tail()}"
            assert time.monotonic() < deadline, f"the server is not ready:\n{self.log_tail()}"
            time.sleep(POLL_S)

    def stop(self) -> int | None:
        """End the server politely, then by force; its exit status, or None if it never ran."""
        if self._process is None:
            return None
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def health(self) -> int | None:
        """The status of `/health`, or None where nobody answers."""
        try:
            with urllib.request.urlopen(f"{self.address}/health", timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as refusal:
            return refusal.code
        except OSError:
            return None

    def environment(self) -> dict[str, str]:
        """The variables of a user of this server: their home and path, and nothing else of this machine."""
        return {
            "HOME": str(self.home),
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            # The code under test, installed or not.
            "PYTHONPATH": str(Path(ownstudio.__file__).parents[1]),
        }

    def log_tail(self) -> str:
        """The end of what the server wrote, for the message of a test that failed."""
        return self.log.read_bytes()[-LOG_BYTES_SHOWN:].decode("utf-8", "replace")


class User:
    """Somebody at a terminal, with the key and the address of a server in the environment."""

    def __init__(self, served: ServedInstance) -> None:
        self.served = served

    def run(self, command: Sequence[str | Path], cwd: Path | None = None) -> str:
        """What the command prints. A failure fails the test, with both sides' last words."""
        done = self.attempt(command, cwd)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{self.served.log_tail()}"
        return done.stdout

    def attempt(
        self, command: Sequence[str | Path], cwd: Path | None = None, *, typed: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """The command as it ended, well or not. `typed` is what the user enters at the keyboard."""
        return subprocess.run(
            command,
            check=False,
            capture_output=True,
            cwd=cwd or self.served.home,
            encoding="utf-8",
            env=self.served.environment()
            | {
                "DASHSCOPE_API_KEY": self.served.key,
                "DASHSCOPE_BASE_URL": self.served.base_url,
                "DASHSCOPE_HTTP_BASE_URL": self.served.native_base_url,
            },
            input=typed,
            timeout=RUN_S_MAX,
        )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
