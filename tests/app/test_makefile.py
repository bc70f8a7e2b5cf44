"""`make` sets up an environment, whatever stands in its place already, and says what is missing where it cannot."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
Make = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """`make setup` with a Python that notes what is made and installed, and does none of it."""
    for name in ("Makefile", "requirements.txt", "pyproject.toml"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    program(tmp_path / "python")

    def make(*variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["make", "setup", *variables],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            timeout=60,
        )

    return make


def program(path: Path, *, makes: bool = True, sound: bool = True) -> None:
    """A Python whose `-m venv` makes an environment with the same Python, or fails half-way."""
    path.parent.mkdir(parents=True, exist_ok=True)
    environment = path.with_name(".venv")
    path.write_text(
        f"""#!/bin/sh
        echo "$@" >> {path.parent}/calls
        case "$*" in
        "-m venv "*)
            rm -rf {environment}; mkdir -p {environment}/bin
            {f"cp {path} {environment}/bin/python" if makes else "touch " + str(environment) + "/bin/python; exit 1"} ;;
        "-c "*) {f'exec {sys.executable} "$@"' if sound else "exit 1"} ;;
        esac
        """
    )
    path.chmod(0o755)


def calls(home: Path) -> str:
    """What the Python outside and the one inside the environment were asked."""
    return "".join(
        path.read_text() for path in (home / "calls", home / ".venv/bin/calls") if path.exists()
    )


def test_what_is_set_up_is_left_alone(make: Make, tmp_path: Path) -> None:
    done = make("PYTHON=./python")
    assert done.returncode == 0, done.stderr
    assert "pip install" in calls(tmp_path)
    (tmp_path / "calls").unlink()
    assert make("PYTHON=./python").returncode == 0
    assert "venv" not in calls(tmp_path)
    assert "pip install" not in calls(tmp_path)


@pytest.mark.parametrize("installed", [False, True])
@pytest.mark.parametrize("left", ["unsound", "nothing", "dangling"])
def test_an_environment_that_cannot_serve_is_made_anew(
    make: Make, tmp_path: Path, left: str, installed: bool
) -> None:
    inside = tmp_path / ".venv" / "bin" / "python"
    inside.parent.mkdir(parents=True)
    if left == "unsound":
        program(inside, sound=False)
    elif left == "dangling":
        inside.symlink_to("/no/such/python")
    if installed:
        (tmp_path / ".venv" / ".serve").touch()
    done = make("PYTHON=./python")
    assert done.returncode == 0, done.stderr
    assert "-m venv --clear .venv" in calls(tmp_path)
    assert "pip install" in calls(tmp_path)
    assert (tmp_path / ".venv" / ".serve").exists()


def test_a_python_that_is_too_old_is_named_and_nothing_is_made(make: Make, tmp_path: Path) -> None:
    program(tmp_path / "python", sound=False)
    for python in ("./python", "no-such-python"):
        refused = make(f"PYTHON={python}")
        assert refused.returncode != 0
        assert f"Python 3.11 or newer is needed, which {python} is not" in refused.stdout
        assert not (tmp_path / ".venv").exists()


def test_an_environment_that_cannot_be_made_leaves_nothing_behind(
    make: Make, tmp_path: Path
) -> None:
    program(tmp_path / "python", makes=False)
    assert make("PYTHON=./python").returncode != 0
    assert not (tmp_path / ".venv").exists()
