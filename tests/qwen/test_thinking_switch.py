"""`/think` and `/no_think` in the text: the last one counts, and only where thinking is on."""

import pytest

from ownstudio.core.request import ChatPrompt, Message, Role
from ownstudio.qwen.thinking_switch import switched


@pytest.mark.parametrize(
    ("turns", "thinks"),
    [
        ([("user", "hello")], True),
        ([("user", "hello /no_think")], False),
        ([("user", "/no_think"), ("assistant", "ok"), ("user", "and now /think")], True),
        ([("system", "/no_think"), ("user", "hello")], False),
        ([("user", "a /no_think b /think")], True),
        ([("user", "hello"), ("assistant", "/no_think")], True),
        ([("user", "see path/no_think.txt")], True),
    ],
)
def test_the_last_switch_counts(turns: list[tuple[Role, str]], thinks: bool) -> None:
    messages = tuple(Message(role, text) for role, text in turns)
    assert switched(ChatPrompt(messages, enable_thinking=True)).enable_thinking == thinks
    assert not switched(ChatPrompt(messages)).enable_thinking
