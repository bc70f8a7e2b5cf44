"""A catalogue of two rows for the dialects' tests."""

from collections.abc import Callable

import pytest

from ownstudio.catalog import Catalog, Model
from ownstudio.core.request import Sampling
from ownstudio.dialects import Identity

MODELS = [
    Model(
        name="qwen-plus",
        deployment="main",
        input_max=30_000,
        output_max=8192,
        n_max=4,
        completions=False,
        defaults=Sampling(temperature=0.7, top_p=0.8, top_k=20, presence_penalty=1.5),
        created=1_700_000_000,
    ),
    Model(
        name="qwen-coder-turbo",
        deployment="main",
        input_max=1000,
        output_max=4096,
        n_max=1,
        completions=True,
        defaults=Sampling(temperature=0.7, top_p=0.8, top_k=20),
        created=1_700_000_001,
    ),
]


@pytest.fixture
def models() -> list[Model]:
    return MODELS


@pytest.fixture
def resolve() -> Callable[[str], Model]:
    return Catalog(MODELS).resolve


@pytest.fixture
def identity() -> Identity:
    return Identity("3de690bd-ae7f-461d-8eb6-d65b0577e803", 1_761_615_592)
