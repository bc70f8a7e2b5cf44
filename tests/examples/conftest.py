"""The servers for all examples, a user who runs them, and the Node.js samples with what they need."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.instance import ServedInstance, User

NODE = Path(__file__).parents[2] / "examples" / "pages" / "node"
NPM_S_MAX = 120.0

# The samples bound no answer, and a small model may ramble to the end of its context: a short one keeps tests short.
CONTEXT = "OWNSTUDIO_DEPLOYMENTS__OWNSTUDIO_TINY__CONTEXT"
# Tools, calls and results take their place in it.
CONTEXT_OF_LOOPS = 2048


def user_of(home: Path, context: int) -> Iterator[User]:
    with ServedInstance(home, environment={CONTEXT: str(context)}) as served:
        yield User(served)


@pytest.fixture(scope="session")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    yield from user_of(tmp_path_factory.mktemp("home"), 512)


@pytest.fixture(scope="module")
def tool_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    """A user whose server has room for tool loops."""
    yield from user_of(tmp_path_factory.mktemp("home"), CONTEXT_OF_LOOPS)


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Node samples with their package installed beside them."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("there is no Node.js on this machine")
    folder = tmp_path_factory.mktemp("node")
    shutil.copytree(NODE, folder, dirs_exist_ok=True)
    if not (folder / "node_modules").is_dir():
        install = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund"]
        try:
            subprocess.run(
                [*install, "--ignore-scripts"],
                check=True,
                capture_output=True,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                timeout=NPM_S_MAX,
            )
        except subprocess.SubprocessError:
            pytest.skip("the openai package of Node.js cannot be installed here")
    return folder
