"""Goal: the ledger can be checked, read and paid into from the shell, for people and for scripts."""

import asyncio
import csv
import io
import json
import os
import pty
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pytest
from typer.testing import CliRunner

from ownstudio.billing.ledger import Ledger
from ownstudio.cli.main import app
from ownstudio.core.events import Usage
from ownstudio.store.database import Database, sqlite_url
from support.money import FREE, hold, put_prices, sql


class Done(NamedTuple):
    stdout: str
    stderr: str

    def lines(self) -> list[str]:
        return self.stdout.splitlines()


Run = Callable[..., Done]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    for name in os.environ:
        if name.startswith("OWNSTUDIO_"):
            monkeypatch.delenv(name)
    for name, value in {"HOME": str(tmp_path), "COLUMNS": "200", "TERM": "dumb"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, status: int = 0) -> Done:
        result = CliRunner().invoke(app, [*arguments, "--data", "data"])
        assert result.exit_code == status, result.output
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return Done(result.stdout, result.stderr)

    return run


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The database of the commands, with an answered request, a refused one and a free one on its ledger."""
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "ownstudio.db"

    async def write() -> None:
        database = await Database.open(sqlite_url(path))
        await put_prices(database)
        ledger = Ledger.open(database, sqlite_url(path))
        held = await ledger.hold(hold(receipt="answered"))
        usage = Usage(100, 20, cached_tokens=40, reasoning_tokens=7)
        await ledger.settle(held, usage, "stop")
        await ledger.release(await ledger.hold(hold(receipt="broken")), "engine_died")
        free = await ledger.hold(hold(FREE, receipt="free", account="lab"))
        await ledger.settle(free, Usage(10, 5), "stop")
        await ledger.close()
        await database.close()

    asyncio.run(write())
    return path


@pytest.mark.parametrize(
    "command",
    [["ledger", "verify"], ["ledger", "show"], ["ledger", "pay"], ["usage"]],
    ids=" ".join,
)
def test_every_command_has_help_with_an_example(run: Run, command: list[str]):
    result = CliRunner().invoke(app, [*command, "--help"])
    assert result.exit_code == 0
    assert f"ownstudio {' '.join(command)}" in result.stdout.split("Example", 1)[1]


def test_a_ledger_that_is_right_is_said_to_be_on_the_last_line(run: Run, path: Path):
    assert run("ledger", "verify").stdout == (
        "6 entries of 3 receipts, 0 open holds, 1 sums: no difference\n"
    )
    (line,) = run("ledger", "verify", "--json").lines()
    assert json.loads(line) == {
        "entries": 6, "receipts": 3, "open_holds": 0, "sums": 1, "differences": 0,
    }  # fmt: skip


def test_an_empty_ledger_is_right(run: Run):
    assert run("ledger", "verify").stdout.endswith(": no difference\n")


def test_each_difference_is_a_line_and_the_status_tells_of_it(run: Run, path: Path):
    sql(
        path,
        "UPDATE entries SET amount = amount + 1 WHERE receipt = 'answered' AND kind = 'settle'",
    )
    amount = 60_000 + 40 * 200 + 80_000
    *found, summary = run("ledger", "verify", status=1).lines()
    assert found == [
        f"answered  settle: amount: {amount} expected, {amount + 1} found",
        f"account:shop  spent: {amount + 1} expected, {amount} found",
    ]
    assert summary.endswith(": 2 differences")
    first, *_, last = map(json.loads, run("ledger", "verify", "--json", status=1).lines())
    assert first == {
        "receipt": "answered",
        "what": "settle: amount",
        "expected": str(amount),
        "found": str(amount + 1),
    }
    assert last["differences"] == 2


def test_on_a_terminal_a_bar_shows_how_far_it_is(path: Path, tmp_path: Path):
    ours, theirs = pty.openpty()
    shown = bytearray()

    def read() -> None:
        try:
            while block := os.read(ours, 4096):
                shown.extend(block)
        except OSError:
            # The other side is closed.
            pass

    reader = threading.Thread(target=read)
    reader.start()
    done = subprocess.run(
        [sys.executable, "-m", "ownstudio", "ledger", "verify", "--data", str(tmp_path / "data")],
        env=os.environ | {"HOME": str(tmp_path), "TERM": "xterm", "COLUMNS": "100"},
        stdout=subprocess.PIPE,
        stderr=theirs,
        timeout=60,
        check=False,
    )
    os.close(theirs)
    reader.join()
    os.close(ours)
    assert done.returncode == 0
    assert done.stdout.endswith(b": no difference\n")
    assert b"6/6" in shown


def test_the_life_of_a_receipt_is_shown(run: Run, path: Path):
    shown = run("ledger", "show", "answered").stdout
    for words in ("shop", "till", "key-1", "tiered in local", "USD 0.000148", "stop"):
        assert words in shown
    assert [
        entry["kind"] for entry in json.loads(run("ledger", "show", "answered", "--json").stdout)
    ] == [
        "hold",
        "settle",
    ]
    assert "engine_died" in run("ledger", "show", "broken").stdout
    assert "no entry of nothing" in run("ledger", "show", "nothing", status=1).stderr


def test_a_payment_is_on_the_ledger_and_in_the_audit_log(run: Run, path: Path):
    done = run("ledger", "pay", "default", "250.000000001", "--note", "invoice 17")
    receipt = done.stdout.strip()
    assert "The balance of default is now USD 250.000000001." in done.stderr
    (entry,) = json.loads(run("ledger", "show", receipt, "--json").stdout)
    assert (entry["account"], entry["kind"], entry["amount"], entry["note"]) == (
        "default",
        "payment",
        250 * 10**9 + 1,
        "invoice 17",
    )
    assert "invoice 17" in run("ledger", "show", receipt).stdout
    paid = json.loads(run("ledger", "pay", "default", "1", "--json").stdout)
    assert paid["balance"] == 251 * 10**9 + 1
    assert (
        sql(path, "SELECT actor, action, target FROM audit")
        == [("cli", "account.pay", "default")] * 2
    )
    assert run("ledger", "verify").lines()[-1].endswith(": no difference")


def test_a_payment_with_a_reference_counts_once(run: Run):
    pay = ("ledger", "pay", "default", "250", "--reference", "bank-7")
    first, again = run(*pay), run(*pay)
    assert again.stdout == first.stdout
    assert "nothing has changed" in again.stderr
    assert "nothing has changed" not in first.stderr
    assert "The balance of default is now USD 250." in again.stderr
    other = run("ledger", "pay", "default", "251", "--reference", "bank-7", status=1)
    assert "another amount" in other.stderr


@pytest.mark.parametrize(
    ("arguments", "message", "status"),
    [
        (("nobody", "1"), "there is no account nobody", 1),
        (("default", "much"), "'much' is not an amount", 2),
        (("default", "0"), "a payment is more than nothing", 2),
        (("default", "1e3"), "'1e3' is not an amount", 2),
        (("default", "1", "--note", "x" * 201), "at most 200 printable characters", 2),
    ],
)
def test_a_payment_that_cannot_be_is_refused_in_words(
    run: Run, path: Path, arguments: tuple[str, ...], message: str, status: int
):
    assert message in run("ledger", "pay", *arguments, status=status).stderr
    assert run("ledger", "verify").stdout.startswith("6 entries")


def test_usage_is_added_up_in_a_table(run: Run, path: Path):
    head, *lines = run("usage", "--by", "account,model").lines()
    assert head.split() == [
        "ACCOUNT", "MODEL", "REQUESTS", "INPUT", "CACHED", "CREATED", "OUTPUT", "REASONING", "FREE", "AMOUNT",
    ]  # fmt: skip
    assert [line.split() for line in lines] == [
        ["lab", "gratis", "1", "10", "0", "0", "5", "0", "0", "0"],
        ["shop", "tiered", "1", "100", "40", "0", "20", "7", "0", "0.000148"],
        ["total", "2", "110", "40", "0", "25", "7", "0", "0.000148"],
    ]


def test_usage_is_printed_for_scripts_and_spreadsheets(run: Run, path: Path):
    found = json.loads(run("usage", "--by", "account", "--account", "shop", "--json").stdout)
    assert found["currency"] == "USD"
    assert [(line["group"], line["amount"]) for line in found["lines"]] == [
        ({"account": "shop"}, 148_000)
    ]
    assert found["total"]["requests"] == 1
    rows = list(csv.DictReader(io.StringIO(run("usage", "--by", "day,key", "--csv").stdout)))
    today = datetime.now(UTC).strftime("%Y-%m-%d")
    assert [(row["day"], row["key"], row["requests"], row["amount"]) for row in rows] == [
        (today, "key-1", "2", "0.000148")
    ]
    assert len(list(csv.reader(io.StringIO(run("usage", "--by", "", "--csv").stdout)))) == 2


def test_usage_of_a_time_has_both_of_its_days(run: Run, path: Path):
    days = [
        datetime.fromtimestamp(time.time() + 86_400 * n, UTC).strftime("%Y-%m-%d")
        for n in (-1, 0, 1)
    ]

    def requests(*arguments: str) -> int:
        found = json.loads(run("usage", "--by", "", "--json", *arguments).stdout)
        count: int = found["total"]["requests"]
        return count

    assert requests("--from", days[1], "--to", days[1]) == 2
    assert requests("--from", days[0]) == 2
    assert requests("--to", days[0]) == 0
    assert requests("--from", days[2], "--to", days[2]) == 0


def test_what_usage_cannot_do_is_refused_in_words(run: Run):
    assert "'colour' is not one of account" in run("usage", "--by", "colour", status=2).stderr
    assert "cannot be had together" in run("usage", "--csv", "--json", status=2).stderr
