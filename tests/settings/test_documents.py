"""Goal: what people read about settings is what the code does."""

import re
import tomllib
from pathlib import Path

import pytest

from ownstudio.settings import load_settings
from ownstudio.settings.documents import (
    example_file,
    settings_page,
    toml_value,
    tree_in_force,
)
from ownstudio.settings.fields import ANY_DEPLOYMENT, fields

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_example_taken_out_of_its_comments_is_the_defaults():
    text = re.sub(r"^#(?! |$)", "", example_file(), flags=re.MULTILINE)
    file = Path("example.toml")
    file.write_text(text, encoding="utf-8")
    assert len(list(_leaves(tomllib.loads(text)))) == len(fields())
    environ = {"HOME": str(Path.home())}
    assert load_settings(file, environ).settings == load_settings(environ=environ).settings


def test_every_setting_has_a_meaning_and_stands_on_the_page():
    page = settings_page()
    for field in fields():
        assert field.meaning
        assert f"| `{field.key[-1]}` |" in page
        assert "OWNSTUDIO_" + "__".join(part.upper() for part in field.key) in page


def test_the_tree_in_force_is_a_settings_file_that_gives_the_same_tree():
    environ = {
        "OWNSTUDIO_SERVER__PORT": "9",
        "OWNSTUDIO_DEPLOYMENTS__A__WEIGHTS": 'we"i\\rd\x7fé.gguf',
        "OWNSTUDIO_DEPLOYMENTS__A__ROUTES": "*,b",
    }
    overrides = {
        "regions": ["singapore", "beijing@:8001"],
        "limits.waiting_max": 7,
        "billing.currency": "CNY",
        "cache.blocks_max": 4096,
        "admin.enabled": False,
    }
    loaded = load_settings(environ=environ, overrides=overrides)
    Path("again.toml").write_text(tree_in_force(loaded), encoding="utf-8")
    assert load_settings(Path("again.toml"), {}).settings == loaded.settings
    assert "port = 9  # OWNSTUDIO_SERVER__PORT" in tree_in_force(loaded)


def test_the_tree_in_force_has_every_setting():
    loaded = load_settings(environ={})
    shown = tomllib.loads(tree_in_force(loaded))
    for field in fields():
        place = shown
        for part in field.key:
            place = place[
                part if part != ANY_DEPLOYMENT else next(iter(loaded.settings.deployments))
            ]


@pytest.mark.parametrize(
    "secret", [field.key for field in fields() if field.secret], ids=lambda key: ".".join(key)
)
def test_the_tree_in_force_hides_secrets(secret: tuple[str, ...]):
    variable = "OWNSTUDIO_" + "__".join(part.upper() for part in secret)
    shown = tree_in_force(load_settings(environ={variable: "sqlite:///hunter2"}))
    assert "hunter2" not in shown
    assert f"# {secret[-1]} = (hidden)  # {variable}" in shown


@pytest.mark.parametrize("value", [True, 1, 1.5, "", 'a"b\\\n\x7f中', ("a", "b"), ()])
def test_values_survive_toml(value: object):
    read = tomllib.loads(f"x = {toml_value(value)}")["x"]
    assert read == (list(value) if isinstance(value, tuple) else value)


def _leaves(table: dict[str, object]):
    for value in table.values():
        if isinstance(value, dict):
            yield from _leaves(value)
        else:
            yield value
