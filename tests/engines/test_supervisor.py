"""The supervisor, with real child processes that behave badly on purpose."""

import asyncio
import logging
import os
import select
import signal
import sys
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import pytest

from ownstudio.engines.base import EngineState, EngineUnavailable
from ownstudio.engines.supervisor import ChildSpec, Supervisor, SupervisorBounds

READY = "import sys, time, os, signal\nprint('READY {}', flush=True)\n"
WAIT = "sys.stdin.read()\n"
BOUNDS = SupervisorBounds(
    start_s=5.0, stop_grace_s=0.3, backoff_s=0.2, backoff_s_max=5.0, healthy_s=60.0
)

MakeSupervisor = Callable[..., Supervisor]


@pytest.fixture
async def supervise() -> AsyncGenerator[MakeSupervisor, None]:
    made: list[Supervisor] = []

    def make(
        script: str, bounds: SupervisorBounds = BOUNDS, socket_path: Path | None = None
    ) -> Supervisor:
        spec = ChildSpec(
            name="child",
            command=[sys.executable, "-c", script],
            environment=dict(os.environ),
            socket_path=socket_path,
            explain=lambda log, status: log.strip().rpartition("\n")[2],
        )
        made.append(Supervisor(spec, bounds))
        return made[-1]

    yield make
    for supervisor in made:
        await supervisor.stop()


async def until(condition: Callable[[], bool], within_s: float = 5.0) -> None:
    for _ in range(int(within_s / 0.01)):
        if condition():
            return
        await asyncio.sleep(0.01)
    pytest.fail("it did not come true in time")


def has_ended(descriptor: int, within_s: float) -> bool:
    """Whether the process behind a pidfd ends in time: the descriptor is readable from then on."""
    return bool(select.select([descriptor], [], [], within_s)[0])


async def test_concurrent_callers_share_one_start(supervise: MakeSupervisor) -> None:
    supervisor = supervise(READY + WAIT)
    assert supervisor.state() is EngineState.STOPPED
    incarnations = await asyncio.gather(*(supervisor.ensure_ready() for _ in range(20)))
    assert {one.number for one in incarnations} == {1}
    assert incarnations[0].announced == b"{}"
    assert supervisor.state() is EngineState.READY


async def test_a_caller_who_gives_up_does_not_end_the_start(supervise: MakeSupervisor) -> None:
    supervisor = supervise("import time; time.sleep(0.2)\n" + READY + WAIT)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await supervisor.ensure_ready()
    assert (await supervisor.ensure_ready()).number == 1


async def test_stop_ends_the_child_and_allows_another(supervise: MakeSupervisor) -> None:
    supervisor = supervise(READY + WAIT)
    await supervisor.ensure_ready()
    pid = supervisor.pid()
    assert pid is not None
    await asyncio.gather(supervisor.stop(), supervisor.stop())
    assert supervisor.state() is EngineState.STOPPED
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert (await supervisor.ensure_ready()).number == 2


@pytest.mark.parametrize("delay_s", [0.0, 0.2], ids=["while spawned", "while not ready"])
async def test_whoever_waits_for_a_start_learns_that_it_was_stopped(
    supervise: MakeSupervisor, delay_s: float
) -> None:
    supervisor = supervise("import time; time.sleep(60)")
    waiter = asyncio.ensure_future(supervisor.ensure_ready())
    await asyncio.sleep(delay_s)
    await supervisor.stop()
    with pytest.raises(EngineUnavailable, match="stopped"):
        await waiter


@pytest.mark.skipif(sys.platform != "linux", reason="needs a pidfd")
async def test_a_child_that_ignores_sigterm_is_killed_with_all_its_children(
    supervise: MakeSupervisor,
) -> None:
    script = (
        "import signal, subprocess, sys\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "grandchild = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(f'READY {grandchild.pid}', flush=True)\n"
        "while True: sys.stdin.read(1)\n"
    )
    supervisor = supervise(script)
    grandchild = int((await supervisor.ensure_ready()).announced)
    descriptor = os.pidfd_open(grandchild)
    begun = time.monotonic()
    await supervisor.stop()
    assert BOUNDS.stop_grace_s <= time.monotonic() - begun < 3
    assert has_ended(descriptor, within_s=2.0)
    os.close(descriptor)


async def test_a_crash_starts_another_at_once(supervise: MakeSupervisor) -> None:
    supervisor = supervise(READY + WAIT)
    first = await supervisor.ensure_ready()
    pid = supervisor.pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert await supervisor.wait_left(first, 1.0)
    assert (await supervisor.ensure_ready()).number == 2


async def crash_until_refused(supervisor: Supervisor) -> None:
    for _ in range(10):
        await supervisor.wait_left(await supervisor.ensure_ready(), 5.0)


async def test_a_crash_loop_is_refused_at_once_with_the_reason_and_tried_again_later(
    supervise: MakeSupervisor,
) -> None:
    supervisor = supervise(READY + "print('out of paper', file=sys.stderr); sys.exit(3)\n")
    with pytest.raises(EngineUnavailable, match="exited with status 3 while running: out of paper"):
        await crash_until_refused(supervisor)
    assert supervisor.state() is EngineState.FAILED
    begun = time.monotonic()
    with pytest.raises(EngineUnavailable) as refusal:
        await supervisor.ensure_ready()
    assert refusal.value.retry_after_s is not None
    assert 0 < refusal.value.retry_after_s <= 2 * BOUNDS.backoff_s
    assert time.monotonic() - begun < 0.1
    await until(lambda: supervisor.state() is not EngineState.FAILED)
    assert time.monotonic() - begun > BOUNDS.backoff_s


async def test_a_refusal_says_how_much_of_the_back_off_is_left(supervise: MakeSupervisor) -> None:
    supervisor = supervise("import sys; sys.exit(1)", SupervisorBounds(start_s=5.0, backoff_s=9.0))
    left_s: list[float] = []
    for _ in range(2):
        with pytest.raises(EngineUnavailable) as refusal:
            await supervisor.ensure_ready()
        assert refusal.value.retry_after_s is not None
        left_s.append(refusal.value.retry_after_s)
        await asyncio.sleep(0.1)
    assert 8 < left_s[0] <= 9
    assert left_s[1] <= left_s[0] - 0.1


async def test_a_stop_is_no_promise_of_a_next_try(supervise: MakeSupervisor) -> None:
    supervisor = supervise("import time; time.sleep(60)")
    waiter = asyncio.ensure_future(supervisor.ensure_ready())
    await asyncio.sleep(0)
    await supervisor.stop()
    with pytest.raises(EngineUnavailable) as refusal:
        await waiter
    assert refusal.value.retry_after_s is None


async def test_a_child_that_stayed_healthy_is_forgiven(supervise: MakeSupervisor) -> None:
    forgiving = SupervisorBounds(start_s=5.0, backoff_s=60.0, healthy_s=0.0)
    supervisor = supervise(READY + WAIT, forgiving)
    for number in (1, 2, 3):
        incarnation = await supervisor.ensure_ready()
        assert incarnation.number == number
        supervisor.kill(incarnation, "hangs")
        assert await supervisor.wait_left(incarnation, 2.0)


async def test_an_old_incarnation_cannot_kill_a_new_one(supervise: MakeSupervisor) -> None:
    supervisor = supervise(READY + WAIT)
    first = await supervisor.ensure_ready()
    supervisor.kill(first, "hangs")
    await supervisor.wait_left(first, 2.0)
    second = await supervisor.ensure_ready()
    supervisor.kill(first, "hangs")
    assert not await supervisor.wait_left(second, 0.1)


async def test_whoever_finds_a_child_hanging_it_is_killed_once_and_the_fault_is_named(
    supervise: MakeSupervisor, caplog: pytest.LogCaptureFixture
) -> None:
    supervisor = supervise(READY + WAIT, SupervisorBounds(start_s=5.0, backoff_s=60.0))
    for _ in range(2):  # the second death is one too many to be tried again at once
        incarnation = await supervisor.ensure_ready()
        for _ in range(3):
            supervisor.kill(incarnation, "hangs")
        assert await supervisor.wait_left(incarnation, 2.0)
    assert caplog.messages.count("child hangs and is killed") == 2
    with pytest.raises(EngineUnavailable, match="child was killed because it hangs"):
        await supervisor.ensure_ready()


async def test_a_start_that_fails_tells_all_waiters_why(supervise: MakeSupervisor) -> None:
    supervisor = supervise("import sys; sys.exit('no such model')")
    results = await asyncio.gather(
        *(supervisor.ensure_ready() for _ in range(5)), return_exceptions=True
    )
    assert {str(result) for result in results} == {
        "child could not be started: it exited with status 1: no such model"
    }


async def test_an_abort_is_named_by_its_signal(supervise: MakeSupervisor) -> None:
    with pytest.raises(EngineUnavailable, match="SIGABRT"):
        await supervise("import os; os.abort()").ensure_ready()


async def test_a_start_has_a_deadline(supervise: MakeSupervisor) -> None:
    supervisor = supervise(
        "import time; time.sleep(60)", SupervisorBounds(start_s=0.2, stop_grace_s=1.0)
    )
    with pytest.raises(EngineUnavailable, match=r"not ready within 0\.2 s"):
        await supervisor.ensure_ready()


async def test_a_command_that_does_not_exist_is_a_failed_start() -> None:
    spec = ChildSpec(name="child", command=["/nowhere/at/all"], environment={})
    supervisor = Supervisor(spec, BOUNDS)
    with pytest.raises(EngineUnavailable, match="could not be run"):
        await supervisor.ensure_ready()
    await supervisor.stop()


async def test_a_flood_of_log_is_bounded_and_cut_at_a_line(supervise: MakeSupervisor) -> None:
    flood = "for i in range(100_000): print('line', i, file=sys.stderr)\n"
    supervisor = supervise("import sys\n" + flood + "sys.exit(1)\n", SupervisorBounds(start_s=30.0))
    with pytest.raises(EngineUnavailable):
        await supervisor.ensure_ready()
    tail = supervisor.log_tail()
    assert 8000 < len(tail) <= 8192
    assert tail.startswith("line ")
    assert tail.endswith("\nline 99999\n")


async def test_every_line_is_logged_but_the_ready_line(
    supervise: MakeSupervisor, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="ownstudio.engines.supervisor")
    supervisor = supervise("print('before')\n" + READY + "print('after', flush=True)\n" + WAIT)
    await supervisor.ensure_ready()
    await until(lambda: "after" in caplog.messages)
    assert "before" in caplog.messages
    assert not [message for message in caplog.messages if message.startswith("READY")]


async def test_a_stale_socket_is_removed(supervise: MakeSupervisor, tmp_path: Path) -> None:
    stale = tmp_path / "stale.sock"
    stale.touch()
    script = f"import os, sys\nassert not os.path.exists({str(stale)!r})\n"
    supervisor = supervise(
        script + READY + f"open({str(stale)!r}, 'w')\n" + WAIT, socket_path=stale
    )
    await supervisor.ensure_ready()
    await supervisor.stop()
    assert not stale.exists()


async def test_the_sockets_directory_is_made_anew_and_private(
    supervise: MakeSupervisor, tmp_path: Path
) -> None:
    directory = tmp_path / "run"
    supervisor = supervise(READY + WAIT, socket_path=directory / "child.sock")
    for _ in range(2):
        await supervisor.ensure_ready()
        assert directory.stat().st_mode & 0o777 == 0o700
        await supervisor.stop()
        directory.rmdir()


async def test_a_directory_that_cannot_be_made_is_a_failed_start(
    supervise: MakeSupervisor, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    supervisor = supervise(READY + WAIT, socket_path=tmp_path / "file" / "run" / "child.sock")
    with pytest.raises(EngineUnavailable, match="could not be run: Not a directory"):
        await supervisor.ensure_ready()
    assert supervisor.state() is EngineState.FAILED
