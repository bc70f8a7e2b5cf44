"""The documents and the code say the same: names exist, lists are whole, links lead somewhere."""

import ast
import re
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from ownstudio.settings import load_settings

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "ownstudio"
DOCS = ROOT / "docs"
DECISIONS = sorted((DOCS / "decisions").glob("[0-9]*.md"))
# Written by people, so that people's mistakes are in them; the others are made from the code.
PROSE = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "examples" / "README.md",
    DOCS / "architecture.md",
    DOCS / "dependencies.md",
    DOCS / "glossary.md",
    DOCS / "limits-and-differences.md",
    DOCS / "scope.md",
    *sorted((DOCS / "decisions").glob("*.md")),
]

# Names in backticks that belong to others.
FOREIGN = {"Router", "StreamingResponse", "aclosing", "receive"}

# Files that readers make, and the lists that `make lock` makes.
MADE_LATER = {"ownstudio.toml", "requirements.txt", "requirements-dev.txt"}

# The words of the design; each has an entry of its own.
WORDS = {
    "account", "deployment", "dialect", "engine", "family", "generation", "hold", "key", "limit", "model",
    "price", "quota", "release", "settle", "workspace",
}  # fmt: skip

DECISION_LINES_MAX = 60


def text_of(path: Path) -> str:
    return path.read_text("utf-8")


def spans(text: str) -> set[str]:
    """What stands in backticks, outside of code blocks."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return set(re.findall(r"`([^`\n]+)`", prose))


def modules() -> list[Path]:
    """All but the `__init__.py` that hold nothing but a docstring."""
    return sorted(
        path
        for path in SOURCE.rglob("*.py")
        if path.name != "__init__.py"
        or any(not isinstance(node, ast.Expr) for node in ast.parse(text_of(path)).body)
    )


@cache
def names_in_code() -> set[str]:
    """Classes, functions, constants, and members as `Class.member`, inherited ones left out."""
    names: set[str] = set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.parse(text_of(path)).body:
            names |= _defined(node)
            if isinstance(node, ast.ClassDef):
                for member in node.body:
                    names |= {f"{node.name}.{name}" for name in _defined(member)}
    return names


def _defined(node: ast.stmt) -> set[str]:
    match node:
        case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
            return {node.name}
        case ast.AnnAssign(target=ast.Name() as target):
            return {target.id}
        case ast.Assign():
            return {target.id for target in node.targets if isinstance(target, ast.Name)}
    return set()


def is_class_name(span: str) -> bool:
    """`Class` or `Class.member`, as prose writes a name of our code."""
    return bool(re.fullmatch(r"[A-Z]\w*[a-z]\w*(\.\w+)?", span))


def is_path(span: str) -> bool:
    return bool(re.fullmatch(r"[\w./-]+(\.(py|md|toml|txt|json|in)|/)", span))


def test_every_module_has_its_line() -> None:
    lines = re.findall(r"^- `([\w/]+\.py)`: ", text_of(DOCS / "architecture.md"), re.MULTILINE)
    assert len(lines) == len(set(lines))
    wanted = {
        str(path.relative_to(SOURCE))
        for path in modules()
        # A folder's `__init__.py` that only passes names on has no line unless somebody wrote one.
        if path.name != "__init__.py" or str(path.relative_to(SOURCE)) in lines
    }
    assert wanted - set(lines) == set()
    assert set(lines) - wanted == set()


@pytest.mark.parametrize("path", PROSE, ids=lambda path: str(path.relative_to(ROOT)))
def test_classes_named_in_prose_exist(path: Path) -> None:
    named = {span for span in spans(text_of(path)) if is_class_name(span)}
    assert named - FOREIGN - names_in_code() == set()


def test_whatever_the_architecture_names_exists() -> None:
    text = text_of(DOCS / "architecture.md")
    named = {
        span
        for span in spans(text)
        if re.fullmatch(r"[A-Za-z_]\w*(\.\w+)?", span) and not is_path(span)
    }
    packages = {path.parent.name for path in SOURCE.rglob("__init__.py")}
    assert named - FOREIGN - names_in_code() - packages == set()


@pytest.mark.parametrize("path", PROSE, ids=lambda path: str(path.relative_to(ROOT)))
def test_paths_in_prose_exist(path: Path) -> None:
    places = (ROOT, SOURCE, path.parent)
    missing = {
        span
        for span in spans(text_of(path))
        if is_path(span) and not any((place / span).exists() for place in places)
    }
    assert missing - MADE_LATER == set()


@pytest.mark.parametrize("path", PROSE, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", text_of(path))
    broken = [link for link in links if "://" not in link and not (path.parent / link).exists()]
    assert broken == []


def test_the_steps_of_a_request_are_numbered() -> None:
    life = text_of(DOCS / "architecture.md").partition("## The life of")[2].partition("\n## ")[0]
    numbers = [int(number) for number in re.findall(r"^(\d+)\. ", life, re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) > 10


@pytest.mark.parametrize(
    ("section", "declared"),
    [
        ("At run time", "pyproject.toml"),
        ("To build", "requirements-build.in"),
        ("For tests and checks", "requirements-dev.in"),
    ],
)
def test_every_dependency_is_justified(section: str, declared: str) -> None:
    part = text_of(DOCS / "dependencies.md").partition(f"## {section}")[2].partition("\n## ")[0]
    justified = re.findall(r"^\| `([^`]+)` \| \S.+ \|$", part, re.MULTILINE)
    assert sorted(justified, key=str.lower) == justified
    assert justified == sorted(_declared(ROOT / declared), key=str.lower)


def test_what_is_imported_is_declared() -> None:
    """A package that comes along with another today may be gone with its next version."""
    imported = {name for path in SOURCE.rglob("*.py") for name in _imported(path)}
    provided_by = packages_distributions()
    needed = {provided_by[name][0] for name in imported - sys.stdlib_module_names - {"ownstudio"}}
    declared = {
        part for one in _declared(ROOT / "pyproject.toml") for part in re.split(r"[\[\],]", one)
    }
    assert {_normal(name) for name in needed} - {_normal(name) for name in declared} == set()


def _imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(text_of(path))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names


def _normal(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _declared(path: Path) -> list[str]:
    if path.suffix == ".toml":
        dependencies: list[str] = tomllib.loads(text_of(path))["project"]["dependencies"]
        return [re.split(r"[<>=!~ ;]", one)[0] for one in dependencies]
    lines = (line.partition("#")[0].strip() for line in text_of(path).splitlines())
    return [line for line in lines if line and not line.startswith("-")]


def test_the_glossary_knows_the_words_of_the_design() -> None:
    entries = re.findall(r"^\| \*\*(.+?)\*\* \|", text_of(DOCS / "glossary.md"), re.MULTILINE)
    assert len(entries) == len(set(entries))
    assert WORDS - set(entries) == set()


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.stem)
def test_a_decision_is_one_page_with_its_four_parts(path: Path) -> None:
    text = text_of(path)
    assert text.startswith(f"# {path.name[:4]} ")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == [
        "Question",
        "Choice",
        "Reasons",
        "What would change our mind",
    ]
    assert len(text.splitlines()) <= DECISION_LINES_MAX
    assert path.name in text_of(path.with_name("README.md"))


def test_the_changelog_has_an_unreleased_section_and_the_version() -> None:
    versions = re.findall(r"^## \[(.+?)\]", text_of(ROOT / "CHANGELOG.md"), re.MULTILINE)
    assert versions[0] == "Unreleased"


def test_the_settings_in_the_readme_are_accepted(tmp_path: Path) -> None:
    (settings,) = re.findall(r"^```toml\n(.*?)^```", text_of(ROOT / "README.md"), re.DOTALL | re.M)
    file = tmp_path / "ownstudio.toml"
    file.write_text(settings, "utf-8")
    loaded = load_settings(file, overrides={"data": str(tmp_path)})
    assert list(loaded.settings.deployments) == ["qwen3"]
