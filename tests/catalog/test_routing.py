"""Which deployment answers a name, and how its context bounds what is published."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ownstudio.catalog import Catalog, DeploymentRoutes, Model, Thinking, load_catalog, read_entries
from ownstudio.core.errors import ErrorKind, StudioError
from ownstudio.core.request import Sampling

CREATED = 1_767_225_600
PUBLISHED = read_entries()


def routes(name: str, *patterns: str, context: int = 4096) -> DeploymentRoutes:
    return DeploymentRoutes(name, patterns, context, CREATED)


def test_a_lone_deployment_answers_every_name() -> None:
    catalog = load_catalog([routes("tiny", "*")])
    assert [model.name for model in catalog.models()] == ["tiny", *PUBLISHED]
    assert {model.deployment for model in catalog.models()} == {"tiny"}
    assert {model.created for model in catalog.models()} == {CREATED}


def test_exact_names_win_over_prefixes_and_longer_prefixes_over_shorter() -> None:
    catalog = load_catalog(
        [
            routes("all", "*"),
            routes("qwen3", "qwen3-*"),
            routes("coder", "qwen3-coder-*"),
            routes("one", "qwen3-coder-plus"),
        ]
    )
    answered_by = {model.name: model.deployment for model in catalog.models()}
    assert answered_by["qwen-plus"] == "all"
    assert answered_by["qwen3-8b"] == "qwen3"
    assert answered_by["qwen3-coder-flash"] == "coder"
    assert answered_by["qwen3-coder-plus-2025-07-22"] == "coder"
    assert answered_by["qwen3-coder-plus"] == "one"


@pytest.mark.parametrize("pattern", ["*", "qwen3-*"])
def test_between_equal_patterns_the_first_declared_wins(pattern: str) -> None:
    for first, second in (("a", "b"), ("b", "a")):
        catalog = load_catalog([routes(first, pattern), routes(second, pattern)])
        assert catalog.resolve("qwen3-8b").deployment == first


def test_a_name_that_nothing_routes_does_not_exist() -> None:
    catalog = load_catalog([routes("tiny", "qwen-plus")])
    assert [model.name for model in catalog.models()] == ["tiny", "qwen-plus"]
    with pytest.raises(StudioError) as refusal:
        catalog.resolve("qwen-max")
    assert refusal.value.kind is ErrorKind.MODEL_NOT_FOUND


def test_own_and_unknown_names_have_every_feature() -> None:
    thinking = Thinking(mode="hybrid", on=True, defaults=Sampling(temperature=0.6))
    deployment = DeploymentRoutes("mine", ("my-model", "qwen-plus"), 4096, CREATED, thinking)
    catalog = load_catalog([deployment])
    for name in ("mine", "my-model"):
        model = catalog.resolve(name)
        assert (model.deployment, model.owned_by) == ("mine", "ownstudio")
        assert (model.input_max, model.output_max) == (4095, 4095)
        assert model.completions
        assert model.features.tools
        assert model.features.json_word
        assert model.n_max == 4
        assert model.thinking == thinking
        assert model.thinking_budget_max == 4095
        for region in ("local", "singapore", "virginia", "beijing"):
            assert model.offer(region) is not None
    assert catalog.resolve("qwen-plus").owned_by == "system"


def test_a_deployment_named_like_a_published_model_serves_that_model() -> None:
    catalog = load_catalog([routes("qwen3-8b", "qwen3-8b"), routes("tiny", "*")])
    model = catalog.resolve("qwen3-8b")
    assert (model.deployment, model.owned_by, model.family) == ("qwen3-8b", "system", "qwen3")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (routes("a", "qwen-plus"), routes("b", "qwen-plus")),
        (routes("a"), routes("b", "a")),
        (routes("a"), routes("a", "*")),
    ],
)
def test_two_claims_to_a_name_are_refused(
    first: DeploymentRoutes, second: DeploymentRoutes
) -> None:
    with pytest.raises(ValueError, match="claimed by two") as refusal:
        load_catalog([first, second])
    assert repr(first.name) in str(refusal.value)
    assert repr(second.name) in str(refusal.value)


@pytest.mark.parametrize("pattern", ["", "*-plus", "qwen*plus", "**", "qwen3_*"])
def test_a_pattern_that_routes_nothing_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="'tiny'"):
        load_catalog([routes("tiny", pattern)])


def test_weights_that_could_not_be_read_keep_their_names() -> None:
    model = load_catalog([routes("tiny", "*", context=1)]).resolve("qwen-plus")
    assert (model.deployment, model.input_max, model.output_max) == ("tiny", 1, 1)


def test_a_context_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="context is 0 tokens"):
        load_catalog([routes("tiny", "*", context=0)])


def test_published_lengths_hold_where_the_context_allows_them() -> None:
    model = load_catalog([routes("large", "*", context=1_048_576)]).resolve("qwen-plus")
    assert (model.input_max, model.output_max) == (997_952, 32_768)
    assert (model.thinking_input_max, model.thinking_budget_max) == (995_904, 81_920)


@given(context=st.integers(min_value=2, max_value=2**21))
def test_no_length_exceeds_the_context(context: int) -> None:
    for model in load_catalog([routes("tiny", "*", context=context)]).models():
        lengths = (model.input_max, model.output_max)
        assert all(1 <= length < context for length in lengths)
        thinking = (model.thinking_input_max, model.thinking_output_max, model.thinking_budget_max)
        thinks = model.thinking.mode != "none"
        assert all((1 if thinks else 0) <= length < context for length in thinking)
        published = PUBLISHED[model.name].window.input if model.name in PUBLISHED else None
        assert model.input_max == min(published or context, context - 1)


def test_offers_by_region() -> None:
    catalog = load_catalog([routes("tiny", "*")])
    model = catalog.resolve("qwen-coder-plus")
    assert model.offer("singapore") is None
    assert model.offer("local") is not None
    beijing = model.offer("beijing")
    assert beijing is not None
    assert beijing.tiers[0].input == 502_000_000
    assert beijing.currency == "USD"


def test_a_catalog_refuses_a_name_twice() -> None:
    row = Model("m", "tiny", 1, 1, 1, False, Sampling(), 0)
    with pytest.raises(ValueError, match="'m' is routed twice"):
        Catalog([row, row])
