"""What a request asks for can be done with the functions that it comes with, and with nothing else."""

from __future__ import annotations

import pytest
from training.corpus import tools
from training.corpus.source import Source

TALKS = 300


@pytest.mark.parametrize("held_out", [False, True])
def test_every_call_is_one_of_a_function_that_is_offered(*, held_out: bool) -> None:
    source = Source(3, held_out=held_out)
    calls = 0
    for number in range(TALKS):
        talk = tools.talk(source) if number % 2 else tools.brief(source)
        offered = {tool["function"]["name"]: tool["function"] for tool in talk.tools}
        assert len(offered) == len(talk.tools)
        for step in (step for task in talk.tasks for step in task.steps):
            function = offered[step.name]
            properties = function["parameters"].get("properties", {})
            assert step.arguments.keys() <= properties.keys()
            needed = function["parameters"].get("required", function.get("required", ()))
            assert set(needed) <= step.arguments.keys()
            calls += 1
    assert calls > TALKS


def test_every_argument_stands_in_the_request() -> None:
    source = Source(4, held_out=True)
    for _ in range(TALKS):
        talk = tools.mixed(source)
        for task in talk.tasks:
            for step in task.steps:
                assert all(str(value) in task.request for value in step.arguments.values())
