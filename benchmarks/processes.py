"""The servers under test, as processes: started, waited for, weighed, ended.

CPU time and memory are read from Linux's /proc; the benchmarks run nowhere else.
"""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from benchmarks.client import Target
from benchmarks.gateway import EngineAddress, GatewayOptions
from benchmarks.passthrough import PassthroughOptions

ROOT = Path(__file__).resolve().parents[1]
START_S_MAX = 60.0
STOP_S_MAX = 10.0
CHAT = "/compatible-mode/v1/chat/completions"
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class StartFailed(Exception):
    """A server under test did not come up; the text ends with its log."""


class Process:
    """A running server on `port`, whose standard output and error are in `log`."""

    def __init__(
        self,
        command: list[str],
        port: int,
        log: Path,
        *,
        cwd: Path = ROOT,
        core: int | None = None,
        **variables: str,
    ) -> None:
        """Nothing of the user's settings reaches the server: neither their variables nor, in `cwd`, their file."""
        self.port = port
        self.log = log
        self.begun = time.perf_counter()
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                cwd=cwd,
                env=_environment() | variables,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        if core is not None:
            # Before it has made a thread: those inherit it.
            os.sched_setaffinity(self._process.pid, {core})

    def wait_listening(self, poll_s: float = 0.02, start_s_max: float = START_S_MAX) -> None:
        """Raises StartFailed."""
        deadline = time.monotonic() + start_s_max
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            if self._process.poll() is not None:
                raise StartFailed(f"it exited with {self._process.returncode}:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise StartFailed(f"it did not listen in {start_s_max:g} s:\n{self.log_tail()}")
            time.sleep(poll_s)

    def cpu_s(self) -> float:
        """User and system time so far, of all threads, in seconds; children not included."""
        stat = Path(f"/proc/{self._process.pid}/stat").read_bytes()
        fields = stat.rpartition(b")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S

    def resident_bytes(self) -> int:
        statm = Path(f"/proc/{self._process.pid}/statm").read_bytes()
        return int(statm.split()[1]) * _PAGE_BYTES

    def stop(self) -> None:
        """Politely, then by force."""
        self._process.terminate()
        try:
            self._process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def log_tail(self) -> str:
        return self.log.read_bytes()[-4096:].decode("utf-8", "replace")


def _environment() -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if "OWNSTUDIO" not in name}
    return inherited | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}", "PYTHONUNBUFFERED": "1"}


class Gateway(Process):
    """Ownstudio. `target` is its chat endpoint with the key, `engine` is where its worker answers directly."""

    target: Target
    engine: EngineAddress

    @property
    def engine_target(self) -> Target:
        return Target(path="/completion", socket_path=self.engine.socket_path, key=self.engine.key)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def gateway(
    *,
    gap_s: float | None = None,
    slots: int = 0,
    context: int = 0,
    endless: bool = False,
    pinned: bool = False,
    double_tcp_port: int | None = None,
) -> Iterator[Gateway]:
    """Ownstudio around the real engine, or around the double where `gap_s` is given.

    `pinned` keeps it on a core of its own, the double and the load on another, where there are two.
    """
    cores = Cores.choose() if pinned else None
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        data = Path(directory)
        announcement = data / "engine.json"
        options = GatewayOptions(
            data=str(data / "data"),
            port=free_port(),
            announcement=str(announcement),
            gap_s=gap_s,
            slots=slots,
            context=context,
            endless=endless,
            double_core=cores.load if cores else None,
            double_tcp_port=double_tcp_port,
        )
        process = Gateway(
            _module("gateway", options),
            options.port,
            data / "log",
            core=cores.server if cores else None,
        )
        try:
            process.wait_listening()
            process.engine = msgspec.json.decode(announcement.read_bytes(), type=EngineAddress)
            key = (data / "data" / "first-key").read_text("utf-8").strip()
            process.target = Target(path=CHAT, port=options.port, key=key)
            yield process
        finally:
            process.stop()


@contextmanager
def passthrough(engine: EngineAddress, *, pinned: bool = False) -> Iterator[Process]:
    """The yardstick, in front of the same engine."""
    cores = Cores.choose() if pinned else None
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        options = PassthroughOptions(port=free_port(), engine=engine)
        process = Process(
            _module("passthrough", options),
            options.port,
            Path(directory) / "log",
            core=cores.server if cores else None,
        )
        try:
            process.wait_listening()
            yield process
        finally:
            process.stop()


def _module(name: str, options: msgspec.Struct) -> list[str]:
    return [sys.executable, "-m", f"benchmarks.{name}", msgspec.json.encode(options).decode()]


class Cores(msgspec.Struct, frozen=True):
    """One core for the server under test, one for all that loads it."""

    server: int
    load: int

    @staticmethod
    def choose() -> "Cores | None":
        """None where there is only one."""
        allowed = sorted(ALL_CORES)
        return Cores(allowed[0], allowed[1]) if len(allowed) > 1 else None


ALL_CORES = frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else frozenset()


@contextmanager
def on_load_core() -> Iterator[None]:
    """Keep this process, which makes the load, off the core of the server under test."""
    cores = Cores.choose()
    if cores is None:
        yield
        return
    os.sched_setaffinity(0, {cores.load})
    try:
        yield
    finally:
        os.sched_setaffinity(0, ALL_CORES)
