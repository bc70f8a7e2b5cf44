"""Goal: prices are shown and imported from the shell, all of a file or nothing, with the row at fault named."""

import json
import os
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pytest
from typer.testing import CliRunner

from ownstudio.cli.main import app

FILE = """
[[price]]
model = "qwen3-coder-plus"
region = "local"
tiers = [
    { upto = 32_000, input = 1.0, output = 5 },
    { input = "1.800000001", output = "9.00", thinking = 12 },
]
cache = { implicit_hit = 20, explicit_hit = 10, creation = 125 }

[[price]]
model = "*"
region = "local"
tiers = [{ input = 0.5, output = 2 }]
"""


class Done(NamedTuple):
    stdout: str
    stderr: str


Run = Callable[..., Done]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    for name in os.environ:
        if name.startswith("OWNSTUDIO_"):
            monkeypatch.delenv(name)
    for name, value in {"HOME": str(tmp_path), "COLUMNS": "200", "TERM": "dumb"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, status: int = 0, **variables: str) -> Done:
        result = CliRunner().invoke(app, ["price", *arguments], env=variables)
        assert result.exit_code == status, result.output
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return Done(result.stdout, result.stderr)

    return run


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "prices.toml"
    path.write_text(FILE)
    return path


def listed(run: Run, *arguments: str) -> list[dict[str, object]]:
    return json.loads(run("list", "--json", *arguments).stdout)


def test_a_new_server_shows_the_published_prices_and_that_its_own_are_free(run: Run):
    singapore = listed(run, "--region", "singapore", "--model", "qwen3-coder-plus")
    assert len(singapore) == 1
    assert singapore[0]["tiers"][0] == {
        "upto": 32000,
        "input": "1",
        "output": "5",
        "thinking": "5",
    }
    assert singapore[0]["cache"] == {"implicit_hit": 20, "explicit_hit": 10, "creation": 125}
    local = listed(run, "--region", "local")
    assert len(local) > 50
    assert {tier["output"] for price in local for tier in price["tiers"]} == {"0"}
    assert [price["model"] for price in listed(run, "--model", "my-own", "--region", "local")] == [
        "*"
    ]
    assert listed(run, "--region", "mars") == []
    assert "no such price" in run("list", "--region", "mars").stderr


def test_the_table_has_a_line_for_each_tier(run: Run):
    shown = run("list", "--model", "qwen3-coder-plus", "--region", "singapore")
    lines = [line.split() for line in shown.stdout.splitlines()]
    assert lines[0][:2] == ["MODEL", "REGION"]
    assert [line[2:6] for line in lines[1:]] == [
        ["32000", "1", "5", "5"],
        ["128000", "1.8", "9", "9"],
        ["256000", "3", "15", "15"],
        ["any", "6", "60", "60"],
    ]
    assert "USD per million tokens" in shown.stderr


def test_an_import_is_in_force_from_its_date_and_exact(run: Run, file: Path):
    done = run("import", str(file), "--effective-from", "2100-01-01")
    assert "2 prices imported, in force from 2100-01-01 00:00:00 UTC" in done.stderr
    model = ("--region", "local", "--model", "qwen3-coder-plus")
    assert listed(run, *model)[0]["origin"] == "catalogue"
    then = listed(run, *model, "--at", "2100-01-01T00:00")[0]
    assert then["tiers"][1] == {"input": "1.800000001", "output": "9", "thinking": "12"}
    assert then["origin"] == "import: prices.toml"
    assert then["effective_from"] == datetime(2100, 1, 1, tzinfo=UTC).timestamp()
    own = listed(run, "--region", "local", "--model", "my-own", "--at", "2100-01-02")
    assert own[0]["tiers"] == [{"input": "0.5", "output": "2", "thinking": "2"}]


def test_an_import_without_a_date_is_in_force_at_once(run: Run, file: Path):
    before = time.time()
    run("import", str(file))
    at = datetime.fromtimestamp(time.time() + 2, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    found = listed(run, "--model", "*", "--region", "local", "--at", at)
    assert before <= found[0]["effective_from"] <= time.time() + 1


def test_a_dry_run_checks_and_shows_everything_and_changes_nothing(run: Run, file: Path):
    before = listed(run)
    done = run("import", str(file), "--dry-run", "--effective-from", "2100-01-01")
    assert "1.800000001" in done.stdout
    assert "nothing was changed" in done.stderr
    assert listed(run, "--at", "2100-01-02") == before
    late = run("import", str(file), "--dry-run", "--effective-from", "2000-01-01", status=2)
    assert "in the past" in late.stderr


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('region = "local"', 'region = "mars"', "price 1 ('qwen3-coder-plus' in 'mars')"),
        ("input = 0.5", "input = nan", "price 2 ('*' in 'local')"),
        ("[[price]]", 'currency = "CNY"\n[[price]]', "this server's currency is USD"),
        ("[[price]]", "[[", "prices.toml: the file holds no prices"),
    ],
)
def test_a_file_with_a_wrong_row_imports_nothing(
    run: Run, file: Path, old: str, new: str, message: str
):
    file.write_text(FILE.replace(old, new, 1))
    done = run("import", str(file), "--effective-from", "2100-01-01", status=2)
    assert message in done.stderr.replace("\n", " ")
    assert {price["origin"] for price in listed(run, "--at", "2100-01-02")} == {"catalogue"}


def test_a_file_that_is_missing_or_no_text_is_refused(run: Run, file: Path):
    assert "does not exist" in run("import", "nowhere.toml", status=2).stderr
    file.write_bytes(b"\xff\xfe")
    assert "not text in UTF-8" in run("import", str(file), status=2).stderr


def test_a_name_that_nothing_answers_to_is_pointed_out(run: Run, file: Path):
    file.write_text(FILE.replace("qwen3-coder-plus", "qwen3-codr-plus"))
    assert "qwen3-codr-plus is no model" in run("import", str(file)).stderr
    file.write_text(FILE)
    assert "is no model" not in run("import", str(file)).stderr
    file.write_text(FILE.replace("qwen3-coder-plus", "ownstudio-tiny"))
    assert "is no model" not in run("import", str(file)).stderr


def test_local_prices_in_another_currency_are_refused_and_the_way_out_is_named(run: Run):
    variables = {
        "OWNSTUDIO_BILLING__CURRENCY": "CNY",
        "OWNSTUDIO_BILLING__LOCAL_PRICES": "beijing",
    }
    done = run("list", status=2, **variables)
    assert "set local_prices to 'none' and import prices in CNY" in done.stderr


def test_the_file_that_the_help_shows_can_be_imported(run: Run, file: Path):
    shown = run("import", "--help").stdout
    found = re.search(r"\[\[price\]\].*?(?=Examples:)", shown, re.DOTALL)
    assert found
    file.write_text(found.group())
    done = run("import", str(file), "--dry-run")
    assert "qwen3-coder-plus" in done.stdout
    assert "12" in done.stdout


@pytest.mark.parametrize("command", [[], ["list"], ["import"]], ids=" ".join)
def test_every_command_has_help_and_every_leaf_an_example(run: Run, command: list[str]):
    shown = run(*command, "--help").stdout
    assert f"ownstudio price {' '.join(command)}".strip() in shown
