"""A PostgreSQL and a Redis of the tests' own: real servers on free ports, which a test may restart or kill."""

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

HOST = "127.0.0.1"
START_S_MAX = 30.0
POLL_S = 0.05
# PostgreSQL refuses to run as root; its package brings this user.
UNPRIVILEGED = "postgres"


class ServerMissing(Exception):
    """The server is not installed here; the text is the reason of the skip."""


class Postgres:
    """One cluster without durability, in a directory of its own."""

    def __init__(self) -> None:
        self._bin = _postgres_directory()
        self._user = UNPRIVILEGED if os.geteuid() == 0 else None
        if self._user is not None:
            try:
                pwd.getpwnam(self._user)
            except KeyError:
                raise ServerMissing(
                    "PostgreSQL cannot run as root and there is no user postgres"
                ) from None
        self._directory = Path(tempfile.mkdtemp(prefix="ownstudio-postgres-"))
        if self._user is not None:
            shutil.chown(self._directory, self._user)
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._run("initdb", "-D", str(self._data), "-U", "tests", "-A", "trust", "--no-sync")
        self.start()

    @property
    def _data(self) -> Path:
        return self._directory / "data"

    def start(self) -> None:
        """Start it, or start it again, and wait until it answers."""
        self._process = subprocess.Popen(
            [
                *(str(self._bin / "postgres"), "-D", str(self._data), "-p", str(self.port)),
                *("-c", f"listen_addresses={HOST}", "-c", "unix_socket_directories="),
                *("-c", "fsync=off", "-c", "max_connections=200"),
            ],
            user=self._user,
            cwd=self._directory,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + START_S_MAX
        while self._psql("postgres", "SELECT 1").returncode != 0:
            assert time.monotonic() < deadline, "PostgreSQL does not answer"
            time.sleep(POLL_S)

    def database(self) -> str:
        """The URL of a new, empty database."""
        name = f"test_{secrets.token_hex(6)}"
        done = self._psql("postgres", f"CREATE DATABASE {name}")
        assert done.returncode == 0, done.stderr.decode()
        return f"postgresql://tests@{HOST}:{self.port}/{name}"

    def stop(self) -> None:
        """Stop it at once, as a machine that loses power would; `start` brings the data back."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait()
            self._process = None

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _psql(self, database: str, statement: str) -> subprocess.CompletedProcess[bytes]:
        address = ("-h", HOST, "-p", str(self.port), "-U", "tests", "-d", database)
        return subprocess.run(
            [str(self._bin / "psql"), *address, "-c", statement], capture_output=True, check=False
        )

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [str(self._bin / program), *arguments],
            user=self._user,
            cwd=self._directory,
            check=True,
            stdout=subprocess.DEVNULL,
        )


class Redis:
    """One Redis that keeps nothing on disk."""

    def __init__(self) -> None:
        program = shutil.which("redis-server")
        if program is None:
            raise ServerMissing("redis-server is not installed")
        self._program = program
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    def start(self) -> None:
        """Start it, or start it again, empty, and wait until it listens."""
        self._process = subprocess.Popen(
            [
                *(self._program, "--port", str(self.port), "--bind", HOST),
                *("--save", "", "--appendonly", "no", "--daemonize", "no"),
            ],
            stdout=subprocess.DEVNULL,
            cwd=tempfile.gettempdir(),
        )
        deadline = time.monotonic() + START_S_MAX
        while not _listens(self.port):
            assert time.monotonic() < deadline, "Redis does not answer"
            time.sleep(POLL_S)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def close(self) -> None:
        self.stop()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def _postgres_directory() -> Path:
    """Where `initdb`, `postgres` and `psql` lie; Debian keeps them off the PATH."""
    candidates: Sequence[Path] = [
        *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True),
        *(Path(place).parent for place in [shutil.which("initdb")] if place),
    ]
    for directory in candidates:
        if all((directory / name).exists() for name in ("initdb", "postgres", "psql")):
            return directory
    raise ServerMissing("PostgreSQL is not installed")
