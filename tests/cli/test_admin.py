"""Goal: whoever may read the data directory makes, lists and revokes admin tokens, and migrates a database by hand."""

import asyncio
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from ownstudio.accounts.admin import AuditEntry, AuditLog
from ownstudio.cli.main import app
from ownstudio.store.database import Database, sqlite_url
from ownstudio.store.schema import SCHEMA_VERSION

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    for name in os.environ:
        if name.startswith("OWNSTUDIO_"):
            monkeypatch.delenv(name)
    for name, value in {"HOME": str(tmp_path), "COLUMNS": "200", "TERM": "dumb"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, status: int = 0) -> Result:
        result = CliRunner().invoke(app, [*arguments, "--data", "data"])
        assert result.exit_code == status, result.output
        return result

    return run


def audited(data: Path) -> list[AuditEntry]:
    async def read() -> list[AuditEntry]:
        database = await Database.open(sqlite_url(data / "ownstudio.db"))
        try:
            return await AuditLog(database).page(None, 100)
        finally:
            await database.close()

    return asyncio.run(read())


def test_a_token_is_made_listed_by_id_alone_and_revoked(run: Run, tmp_path: Path) -> None:
    assert "There is no token yet" in run("admin", "token", "list").stderr
    made = run("admin", "token", "create")
    secret = made.stdout.strip()
    assert re.fullmatch(r"adm-[\w-]{43}", secret)
    (token_id,) = re.findall(r"token-[0-9a-f]{16}", made.stderr)
    listed = run("admin", "token", "list").stdout
    assert token_id in listed
    assert "in use" in listed
    assert secret not in listed
    run("admin", "token", "revoke", token_id)
    assert "revoked" in run("admin", "token", "list").stdout
    again = run("admin", "token", "revoke", token_id, status=1)
    assert f"{token_id} is no token in use" in again.stderr
    assert run("admin", "token", "revoke", "token-none", status=1)
    lines = audited(tmp_path / "data")
    assert [(line.actor, line.action) for line in reversed(lines)] == [
        ("cli", "token.create"),
        *[("cli", "token.revoke")] * 3,
    ]
    assert [line.detail.get("revoked") for line in reversed(lines)] == [None, True, False, False]
    assert {line.target for line in lines} == {token_id, "token-none"}
    assert secret not in str(lines)


def test_scripts_get_json(run: Run) -> None:
    made = json.loads(run("admin", "token", "create", "--json").stdout)
    assert made["token"].startswith("adm-")
    (listed,) = json.loads(run("admin", "token", "list", "--json").stdout)
    assert listed["id"] == made["id"]
    assert listed["revoked_at"] is None


def test_a_database_is_migrated_by_hand_and_then_left_as_it_is(run: Run, tmp_path: Path) -> None:
    assert run("migrate").stdout.split() == ["before", "empty", "now", SCHEMA_VERSION]
    file = tmp_path / "data" / "ownstudio.db"
    written = file.read_bytes()
    assert run("migrate").stdout.split() == ["before", SCHEMA_VERSION, "now", SCHEMA_VERSION]
    assert file.read_bytes() == written


def test_a_database_of_a_newer_version_is_refused_in_words(run: Run, tmp_path: Path) -> None:
    run("migrate")

    async def age() -> None:
        database = await Database.open(sqlite_url(tmp_path / "data" / "ownstudio.db"))
        async with database.transaction() as connection:
            await connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
        await database.close()

    asyncio.run(age())
    refused = run("migrate", status=1)
    assert "written by a newer Ownstudio" in refused.stderr


@pytest.mark.parametrize(
    "command", [["admin", "token", "create"], ["admin", "token", "list"], ["migrate"]]
)
def test_the_help_shows_an_example(command: list[str]) -> None:
    shown = CliRunner().invoke(app, [*command, "--help"]).stdout
    assert f"ownstudio {' '.join(command)}" in shown


def test_what_other_commands_change_is_in_the_audit_log(run: Run, tmp_path: Path) -> None:
    run("account", "create", "shop", "--prepaid", "--rpm", "60")
    run("account", "set", "shop", "--suspend", "--clear", "budget")
    run("account", "create", "shop", status=2)
    run("workspace", "create", "till", "--account", "shop")
    run("workspace", "set", "till", "--budget", "1/day")
    made = json.loads(run("key", "create", "--workspace", "till", "--json").stdout)
    run("key", "set", made["id"], "--name", "counter")
    run("key", "disable", made["id"])
    run("key", "enable", made["id"])
    new = json.loads(run("key", "rotate", made["id"], "--overlap", "1h", "--json").stdout)
    run("key", "revoke", new["id"])
    run("key", "revoke", "key-none", status=1)
    prices = tmp_path / "prices.toml"
    prices.write_text(
        '[[price]]\nmodel = "qwen-plus"\nregion = "local"\ntiers = [{ input = 1, output = 2 }]\n'
    )
    run("price", "import", str(prices), "--dry-run")
    run("price", "import", str(prices))
    lines = audited(tmp_path / "data")[::-1]
    rpm = {"prepaid": True, "rpm": 60}
    taken = {"reason": "the account shop exists already"}
    workspace = {"account": "shop"}
    key = {"workspace": "till", "region": "local"}
    file = {"prices": ["qwen-plus in local"], "effective_from": None, "note": "prices.toml"}
    assert [(line.action, line.target, line.outcome, line.detail) for line in lines] == [
        ("account.create", "shop", "done", rpm),
        ("account.update", "shop", "done", {"suspended": True, "clear": ["budget"]}),
        ("account.create", "shop", "refused", taken),
        ("workspace.create", "till", "done", workspace),
        ("workspace.update", "till", "done", {"budget": "1/day"}),
        ("key.create", made["id"], "done", key),
        ("key.update", made["id"], "done", {"name": "counter"}),
        ("key.update", made["id"], "done", {"disabled": True}),
        ("key.update", made["id"], "done", {"disabled": False}),
        ("key.rotate", made["id"], "done", {"overlap": "1h", "new_key": new["id"]}),
        ("key.revoke", new["id"], "done", {"revoked": True}),
        ("key.revoke", "key-none", "done", {"revoked": False}),
        ("prices.import", "", "done", file),
    ]
    assert {line.actor for line in lines} == {"cli"}
    assert made["key"] not in str(lines)
