"""Goal: accounts, workspaces and keys are made and changed from the shell, exactly as written, or nothing is."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from typer.testing import CliRunner

from ownstudio.cli.main import app


class Done(NamedTuple):
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)


Run = Callable[..., Done]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    for name in os.environ:
        if name.startswith("OWNSTUDIO_"):
            monkeypatch.delenv(name)
    for name, value in {"HOME": str(tmp_path), "COLUMNS": "200", "TERM": "dumb"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)

    def run(line: str, status: int = 0) -> Done:
        result = CliRunner().invoke(app, [*line.split(" "), "--data", "d"])
        assert result.exit_code == status, result.output
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return Done(result.stdout, result.stderr)

    return run


def keys(run: Run) -> dict[str, Any]:
    return {key["id"]: key for key in run("key list --json").json}


def test_a_key_is_made_with_all_that_is_said_of_it(run: Run):
    done = run(
        "key create --json --workspace new --expires-in 30d --models a,b --addresses 10.0.0.0/8,2001:db8::/32"
        " --rpm 60 --tpm 100000 --limit qwen3-max=5/ --limit x=y=/7 --concurrency 4 --budget 12.50/month"
    )
    made = done.json
    assert "The workspace new is new" in done.stderr
    assert abs(made["expires_at"] - time.time() - 30 * 86_400) < 60
    (key,) = keys(run).values()
    assert key["expires_at"] == made["expires_at"]
    assert key["rules"] == {
        "models": ["a", "b"],
        "addresses": ["10.0.0.0/8", "2001:db8::/32"],
        "limits": {
            "qwen3-max": {"requests_per_minute": 5},
            "x=y": {"tokens_per_minute": 7},
            "*": {"requests_per_minute": 60, "tokens_per_minute": 100_000},
        },
        "concurrency": 4,
        "budget": {"amount": 12_500_000_000, "period": "month"},
    }
    assert "The workspace" not in run("key create --workspace new").stderr


def test_a_change_names_what_changes_and_leaves_the_rest(run: Run):
    made = run("key create --json --name laptop --models a --rpm 60 --tpm 1000").json["id"]
    run(f"key set {made} --tpm 2000 --concurrency 2 --expires-in 1h")
    assert keys(run)[made]["rules"] == {
        "models": ["a"],
        "limits": {"*": {"requests_per_minute": 60, "tokens_per_minute": 2000}},
        "concurrency": 2,
    }
    changed = run(
        f"key set {made} --clear limits --clear models --clear expiry --rpm 5 --name desktop --json"
    ).json
    assert changed == keys(run)[made]
    assert (changed["name"], changed["expires_at"]) == ("desktop", None)
    assert changed["rules"] == {"limits": {"*": {"requests_per_minute": 5}}, "concurrency": 2}
    assert (
        run(f"key set {made} --models=").stderr == f"{made}: in use; models none; *=5/; 2 at once\n"
    )


def test_the_state_of_every_key_is_listed(run: Run, monkeypatch: pytest.MonkeyPatch):
    made = {
        word: run("key create --json" + (" --expires-in 1h" if word == "expired" else "")).json[
            "id"
        ]
        for word in ("use", "disabled", "revoked", "expired", "rotated")
    }
    run(f"key disable {made['disabled']}")
    run(f"key revoke {made['revoked']}")
    assert "rotated" not in run(f"key rotate {made['rotated']} --overlap 1d").stdout
    in_two_hours = time.time() + 7200
    with monkeypatch.context() as later:
        later.setattr(time, "time", lambda: in_two_hours)
        listed = run("key list").stdout
    state = {line.split()[0]: line for line in listed.splitlines()}
    for word, sign in {"use": "in use", "rotated": "until"}.items():
        assert f"  {sign} " in state[made[word]]
    for word in ("disabled", "revoked", "expired"):
        assert f"  {word} 20" in state[made[word]]
    assert len(state) == 1 + 6
    run(f"key enable {made['disabled']}")
    assert keys(run)[made["disabled"]]["disabled_at"] is None


def test_a_rotated_key_is_printed_once_and_the_old_one_ends(run: Run):
    made = run("key create --json --name laptop --models a").json
    done = run(f"key rotate {made['id']} --json")
    assert done.json["key"] != made["key"]
    assert f"{made['id']} is revoked." in done.stderr
    assert keys(run)[done.json["id"]]["name"] == "laptop"
    assert keys(run)[done.json["id"]]["rules"] == {"models": ["a"]}
    run(f"key disable {done.json['id']}")
    again = run(f"key rotate {done.json['id']} --overlap 2d")
    assert again.stdout.startswith("sk-")
    assert "ends in 2d at the latest" in again.stderr
    assert "is disabled, as" in again.stderr


def test_workspaces_are_made_listed_and_changed(run: Run):
    run("account create shop")
    done = run("workspace create web --account shop --name Web --models a --rpm 60")
    assert done.stderr == "web: in the account shop; models a; *=60/\n"
    assert run("workspace list --json").json == [
        {"id": "default", "account": "default", "name": "", "rules": {}},
        {
            "id": "web",
            "account": "shop",
            "name": "Web",
            "rules": {"models": ["a"], "limits": {"*": {"requests_per_minute": 60}}},
        },
    ]
    changed = run("workspace set web --clear models --name W --json").json
    assert changed["rules"] == {"limits": {"*": {"requests_per_minute": 60}}}
    assert run("workspace list --account shop --json").json == [changed]
    assert "web      shop     *=60/  W" in run("workspace list").stdout


def test_accounts_are_made_listed_and_changed(run: Run):
    run("account create shop --prepaid --name Shop --free-only a --free-only b --tpm 5")
    shop = run("account list --json").json[1]
    assert abs(shop.pop("activated_at") - time.time()) < 60
    assert shop == {
        "id": "shop",
        "name": "Shop",
        "prepaid": True,
        "suspended": False,
        "free_only": ["a", "b"],
        "rules": {"limits": {"*": {"tokens_per_minute": 5}}},
    }
    done = run("account set shop --suspend --postpaid --clear free-only --clear limits")
    assert done.stderr == "shop: suspended, postpaid; -\n"
    assert "  suspended  postpaid  -  " in run("account list").stdout
    changed = run("account set shop --resume --free-only * --json").json
    assert (changed["suspended"], changed["prepaid"], changed["free_only"]) == (False, False, ["*"])
    assert changed["name"] == "Shop"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("key create --addresses 10.0.0.1/8", "the range around it is 10.0.0.0/8"),
        ("key create --addresses=", "--addresses names no range"),
        ("key create --models *", "leave the models out"),
        ("key create --rpm 0", "--rpm"),
        ("key create --limit qwen3-max", "'qwen3-max' is not MODEL=RPM/TPM"),
        ("key create --limit qwen3-max=0/1", "the rules cannot be"),
        ("key create --budget 12.50", "'12.50' is not a budget such as 12.50/month"),
        ("key create --budget 1e3/day", "'1e3' is not an amount"),
        ("key create --budget 0.0000000001/day", "more than 9 decimal places"),
        ("key create --expires-in 30", "'30' is not a duration such as 45s"),
        ("key create --expires-in 0s", "cannot expire in the past"),
        ("key set key-1 --clear everything", "--clear everything is none of models, addresses"),
        ("workspace set default --clear expiry", "--clear expiry is none of"),
        ("workspace create default", "the workspace default exists already"),
        ("account create default", "the account default exists already"),
        ("account create a/b", "the account 'a/b' is not 1 to 64"),
    ],
)
def test_what_cannot_be_is_wrong_usage(run: Run, line: str, message: str):
    assert message in run(line, status=2).stderr


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("key set key-1 --rpm 1", "key"),
        ("key disable key-1", "key"),
        ("key rotate key-1", "key"),
        ("workspace set nope --rpm 1", "workspace"),
        ("workspace create web --account nope", "account"),
        ("account set nope --suspend", "account"),
    ],
)
def test_what_is_not_there_is_said_with_where_to_look(run: Run, line: str, what: str):
    assert f"`ownstudio {what} list` shows every {what} by its ID" in run(line, status=1).stderr
