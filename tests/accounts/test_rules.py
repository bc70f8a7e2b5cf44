"""Goal: rules that no one can mean are refused in words before they are stored."""

import pytest

from ownstudio.accounts.rules import NOTHING, UNBOUND, Budget, Limit, Rules, check_rules


@pytest.mark.parametrize(
    "rules",
    [
        UNBOUND,
        NOTHING,
        Rules(models=("qwen-plus", "Qwen/Qwen3-0.6B")),
        Rules(addresses=("10.0.0.0/8", "10.0.0.1", "2001:db8::/32")),
        Rules(limits={"*": Limit(60, 100_000), "qwen-max": Limit()}),
        Rules(concurrency=1, budget=Budget(0, "day")),
    ],
)
def test_rules_that_can_be_are_accepted(rules: Rules):
    check_rules(rules)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (Rules(addresses=("10.0.0.1/8",)), "the range around it is 10.0.0.0/8"),
        (Rules(addresses=("10.0.0.0/33",)), "'10.0.0.0/33' is not an address range"),
        (Rules(addresses=("",)), "'' is not an address range"),
        (Rules(models=("",)), "'' is not the name of a model"),
        (Rules(models=("a\nb",)), "is not the name of a model"),
        (Rules(models=(" a",)), "is not the name of a model"),
        (Rules(models=("x" * 129,)), "1 to 128 printable"),
        (Rules(models=("*",)), "leave the models out"),
        (Rules(limits={"": Limit(1)}), "'' is not the name of a model"),
        (Rules(limits={"*": Limit(0)}), "the rules cannot be: .*>= 1.*limits"),
        (Rules(limits={"*": Limit(None, 10**13)}), "the rules cannot be"),
        (Rules(concurrency=0), "the rules cannot be: .*concurrency"),
        (Rules(budget=Budget(-1)), "the rules cannot be: .*budget.amount"),
        (Rules(budget=Budget(1, "week")), "the rules cannot be: .*budget.period"),  # type: ignore[arg-type]
    ],
)
def test_rules_that_cannot_be_are_refused_in_words(rules: Rules, message: str):
    with pytest.raises(ValueError, match=message):
        check_rules(rules)


def test_a_row_for_a_model_stands_for_the_row_of_every_model():
    rules = Rules(limits={"*": Limit(60), "free": Limit()})
    assert rules.limit("other") == Limit(60)
    assert rules.limit("free") == Limit()
    assert UNBOUND.limit("other") is None
