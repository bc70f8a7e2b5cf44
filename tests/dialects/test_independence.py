"""A dialect knows no other: the contracts that import-linter checks name every module of either."""

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def modules(dialect: str) -> set[str]:
    stems = {path.stem for path in (ROOT / "src" / "ownstudio" / "dialects").glob("*.py")}
    return {f"ownstudio.dialects.{stem}" for stem in stems if stem.split("_")[0] == dialect}


@pytest.mark.parametrize(
    ("name", "source", "forbidden"),
    [
        ("The native dialect knows nothing of the OpenAI dialect", "dashscope", "openai"),
        ("The OpenAI dialect knows nothing of the native dialect", "openai", "dashscope"),
    ],
)
def test_the_contract_names_every_module(name: str, source: str, forbidden: str) -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    (contract,) = [contract for contract in contracts if contract["name"] == name]
    assert set(contract["source_modules"]) == modules(source)
    assert set(contract["forbidden_modules"]) == modules(forbidden)
