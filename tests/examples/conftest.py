"""One server for all examples, and a user who runs them."""

from collections.abc import Iterator

import pytest

from support.instance import ServedInstance, User

# The samples bound no answer, and a small model may ramble to the end of its context: a short one keeps tests short.
CONTEXT = {"OWNSTUDIO_DEPLOYMENTS__OWNSTUDIO_TINY__CONTEXT": "512"}


@pytest.fixture(scope="session")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    with ServedInstance(tmp_path_factory.mktemp("home"), environment=CONTEXT) as served:
        yield User(served)
