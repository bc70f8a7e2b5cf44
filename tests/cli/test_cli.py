"""Goal: the commands do what their help says, in a process of their own, and say what to do when they cannot."""

import json
import os
import re
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from typer.testing import CliRunner

from ownstudio import __version__
from ownstudio.accounts.keys import Keyring
from ownstudio.cli.main import app
from ownstudio.store.database import Database, sqlite_url
from support.hub import FakeHub, fake_hub


class Done(NamedTuple):
    stdout: str
    stderr: str


Run = Callable[..., Done]


@pytest.fixture(autouse=True)
def _clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("OWNSTUDIO_"):
            monkeypatch.delenv(name)
    for name, value in {"HOME": str(tmp_path), "COLUMNS": "200", "TERM": "dumb"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run() -> Run:
    """Runs a command here, which is quick."""

    def run(*arguments: str, status: int = 0, **variables: str) -> Done:
        result = CliRunner().invoke(app, arguments, env=variables)
        assert result.exit_code == status, result.output
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return Done(result.stdout, result.stderr)

    return run


@pytest.fixture
def spawn() -> Run:
    """Runs a command in a process of its own, which reads its variables anew."""

    def spawn(*arguments: str, status: int = 0, **variables: str) -> Done:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", "ownstudio", *arguments],
            env=os.environ | variables,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr
        return Done(done.stdout, done.stderr)

    return spawn


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with fake_hub(FakeHub(files={"tiny.gguf": b"GGUF" * 1000})) as running:
        yield running


def commands() -> list[list[str]]:
    return [
        [], ["serve"], ["check"],
        ["account"], ["account", "create"], ["account", "list"], ["account", "set"],
        ["workspace"], ["workspace", "create"], ["workspace", "list"], ["workspace", "set"],
        ["key"], ["key", "create"], ["key", "list"], ["key", "set"], ["key", "disable"],
        ["key", "enable"], ["key", "rotate"], ["key", "revoke"],
        ["model"], ["model", "pull"], ["model", "list"], ["model", "weights"],
    ]  # fmt: skip


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_every_command_has_help_and_every_leaf_an_example(run: Run, command: list[str]):
    shown = run(*command, "--help")
    if command not in ([], ["account"], ["workspace"], ["key"], ["model"]):
        assert f"ownstudio {' '.join(command)}" in shown.stdout


def test_the_help_and_the_version_load_nothing_heavy(spawn: Run):
    code = (
        "import sys; from ownstudio.cli.main import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('sqlalchemy', 'alembic', 'huggingface_hub', 'httpx2', 'granian', 'starlette',"
        " 'xllamacpp', 'tokenizers', 'asyncio', 'aiohttp') if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert spawn("--version").stdout == f"ownstudio {__version__}\n"


def test_a_key_is_made_where_nothing_is_yet_and_works(run: Run, tmp_path: Path):
    done = run(
        "key",
        "create",
        "--data",
        "new/data",
        "--json",
        "--name",
        "ci",
        "--workspace",
        "w",
        "--region",
        "beijing",
    )
    made = json.loads(done.stdout)
    assert made["key"].startswith("sk-")
    assert {name: made[name] for name in ("name", "workspace", "region")} == {
        "name": "ci",
        "workspace": "w",
        "region": "beijing",
    }
    assert stat.S_IMODE((tmp_path / "new/data").stat().st_mode) == 0o700
    plain = run("key", "create", "--data", "new/data")
    assert re.fullmatch(r"sk-[\w-]{43}\n", plain.stdout)
    listed = run("key", "list", "--data", "new/data")
    assert made["id"] in listed.stdout
    assert made["key"] not in listed.stdout
    run("key", "revoke", made["id"], "--data", "new/data")
    listed = json.loads(run("key", "list", "--data", "new/data", "--json").stdout)
    assert [key["revoked_at"] is None for key in listed if key["id"] == made["id"]] == [False]
    again = run("key", "revoke", made["id"], "--data", "new/data", status=1)
    assert "no key in use; `ownstudio key list`" in again.stderr


async def test_a_key_made_by_the_command_works_in_a_process_that_runs(spawn: Run, tmp_path: Path):
    path = tmp_path / "data/ownstudio.db"
    path.parent.mkdir()
    database = await Database.open(sqlite_url(path))
    keyring = Keyring(database)
    await keyring.ensure_first_key(tmp_path / "first-key")
    made = json.loads(spawn("key", "create", "--data", "data", "--json").stdout)
    assert (await keyring.authenticate(made["key"])).key_id == made["id"]
    await database.close()


def test_a_key_with_an_impossible_scope_is_wrong_usage(run: Run):
    done = run("key", "create", "--workspace", "a b", "--data", "d", status=2)
    assert done.stderr.startswith("error: the workspace 'a b' is not")


def test_a_store_that_cannot_be_used_is_a_plain_error(run: Run, tmp_path: Path):
    (tmp_path / "file").touch()
    done = run("key", "list", "--data", "file/data", status=1)
    assert "choose another with --data" in done.stderr
    newer = tmp_path / "newer"
    run("key", "create", "--data", "newer")
    with sqlite3.connect(newer / "ownstudio.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    assert "newer Ownstudio" in run("key", "list", "--data", "newer", status=1).stderr


def test_check_prints_the_tree_and_refuses_mistakes(run: Run, tmp_path: Path):
    done = run("check", OWNSTUDIO_SERVER__PORT="9000", OWNSTUDIO_DATABASE_URL="sqlite:///hunter2")
    assert "port = 9000  # OWNSTUDIO_SERVER__PORT" in done.stdout
    assert "hunter2" not in done.stdout
    (tmp_path / "ownstudio.toml").write_text("[server]\nprot = 1")
    done = run("check", status=2)
    assert (
        "server.prot (in ownstudio.toml) is not a setting: did you mean server.port?" in done.stderr
    )
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["srve"], "serve"),
        (
            ["serve", "--port", "99999"],
            "server.port = 99999 (--port): must be a whole number from 0 to 65535",
        ),
        (["serve", "--port", "x"], "--port"),
        (["serve", "--config", "nowhere.toml"], "nowhere.toml cannot be read: No such file"),
        (["model", "pull", "not-a-repo"], "is not a repository such as"),
        (["key", "revoke"], "ID"),
        (
            ["key", "create", "--region", "mars"],
            "'mars' is no region: the regions are local, singapore, virginia, beijing",
        ),
    ],
)
def test_wrong_usage_is_status_2_and_says_what_is_wrong(
    run: Run, arguments: list[str], message: str
):
    assert message in run(*arguments, status=2).stderr


@pytest.mark.parametrize(
    ("settings", "refusal"),
    [
        ('regions = ["mars"]', "regions: 'mars' begins with no region"),
        ("regions = []", "regions: the list is empty"),
        ('database_url = "mysql://host/name"', "database_url begins with mysql"),
        ('database_url = "nonsense"', "database_url is not a database URL"),
        ('redis_url = "http://host"', "redis_url is no address such as redis://"),
        ('redis_url = "redis://me:hunter2/x@host"', "redis_url is no address such as redis://"),
        (
            '[deployments.a]\nweights = "bundled"\nroutes = ["no-such-model-*"]',
            "deployments: deployment 'a': the route 'no-such-model-*' matches no model",
        ),
    ],
)
def test_check_refuses_what_serve_would_and_makes_nothing(
    run: Run, tmp_path: Path, settings: str, refusal: str
):
    (tmp_path / "ownstudio.toml").write_text(settings)
    done = run("check", "--data", "data", status=2)
    assert refusal in done.stderr
    assert "hunter2" not in done.stderr
    assert done.stdout == ""
    assert not (tmp_path / "data").exists()


def test_no_example_exports_what_every_command_then_refuses(run: Run):
    for command in (*commands(), ["admin", "token", "create"]):
        shown = run(*command, "--help").stdout
        for name in re.findall(r"export (\w+)=", shown):
            run("check", **{name: "x"})


@pytest.mark.parametrize("source", ["hf", "ms"])
def test_a_model_is_pulled_after_a_break_and_listed(
    spawn: Run, hub: FakeHub, tmp_path: Path, source: str
):
    hub.cuts = [1000]
    places = {"HF_ENDPOINT": hub.url, "MODELSCOPE_ENDPOINT": hub.url}
    done = spawn("model", "pull", "--from", source, hub.repo, "--data", "d", **places)
    assert Path(done.stdout.strip()).read_bytes() == hub.files["tiny.gguf"]
    assert f'weights = "{source}:{hub.repo}"' in done.stderr
    assert hub.offsets == [0, 1000]
    listed = json.loads(spawn("model", "weights", "--data", "d", "--json").stdout)
    assert [row["weights"] for row in listed] == ["bundled", f"{source}:{hub.repo}:tiny.gguf"]
    assert f"{source}:{hub.repo}:tiny.gguf" in spawn("model", "weights", "--data", "d").stdout


def test_a_pull_that_fails_says_why(spawn: Run, hub: FakeHub):
    offline = spawn(
        "model", "pull", hub.repo, "--data", "d", status=1, HF_ENDPOINT=hub.url, HF_HUB_OFFLINE="1"
    )
    assert "HF_HUB_OFFLINE is set" in offline.stderr
    missing = spawn("model", "pull", "hf:Qwen/None", "--data", "d", status=1, HF_ENDPOINT=hub.url)
    assert "does not exist, or is private" in missing.stderr
    assert hub.offsets == []
