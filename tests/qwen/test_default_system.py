"""A system turn that nobody sent is cut from the prompt; all that a template means to be read stays."""

from datetime import UTC, datetime

import pytest

from ownstudio.qwen.default_system import WithoutDefaultSystem
from ownstudio.qwen.template import ChatTemplate
from ownstudio.qwen.tokenizer import Tokenizer

TURNS = (
    "{% for m in messages %}{% if not (loop.first and m.role == 'system') %}"
    "{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}"
    "{% endif %}{% endfor %}{{ '<|im_start|>assistant\\n' }}"
)


def with_system(text: str, *, around: str = "{{ said }}") -> str:
    """A template whose system turn holds the message, or else `text`; with tools it names them there, too."""
    return (
        "{% set has = messages[0].role == 'system' %}"
        f"{{% set said = messages[0].content if has else {text} %}}"
        f"{{{{ '<|im_start|>system\\n' }}}}{around}"
        "{% if tools %}{{ '\\n# Tools\\n' + tools[0] | tojson }}{% endif %}"
        "{{ '<|im_end|>\\n' }}" + TURNS
    )


# Like that of Qwen2.5: the system turn is there in any case.
DEFAULT = with_system("'You are ours. You are a helpful assistant.'")
SYSTEM = {"role": "system", "content": "Be kind."}
NOTHING = {"role": "system", "content": ""}
USER = {"role": "user", "content": "你是谁？"}
TALK = [USER, {"role": "assistant", "content": "Me."}, {"role": "user", "content": "Who?"}]
NOW = datetime(2026, 1, 2, tzinfo=UTC)


def both(
    source: str, messages: list[dict[str, str]], tools: object = None, *, thinks: bool = False
) -> tuple[str, str]:
    """What the template writes, and what is left of it."""
    template = ChatTemplate(source, clock=lambda: NOW)
    variables = {"messages": messages, "tools": tools, "enable_thinking": thinks}
    return template.render(variables), WithoutDefaultSystem(template, {}).render(variables)


def plain(messages: list[dict[str, str]]) -> str:
    turns = [f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages]
    return "".join(turns) + "<|im_start|>assistant\n"


@pytest.mark.parametrize("messages", [[USER], TALK])
@pytest.mark.parametrize(
    "source", [DEFAULT, with_system("'Today is ' + strftime_now('%Y')")], ids=["fixed", "dated"]
)
def test_a_turn_that_nobody_sent_is_cut(source: str, messages: list[dict[str, str]]) -> None:
    written, left = both(source, messages)
    assert written.startswith("<|im_start|>system\n")
    assert left == plain(messages)


def test_the_prompt_has_as_many_tokens_as_the_service_counted(tokenizer: Tokenizer) -> None:
    _, left = both(DEFAULT, [USER])
    assert len(tokenizer.encode(left, specials=True)) == 11


@pytest.mark.parametrize("message", [SYSTEM, NOTHING])
def test_a_system_message_stays_even_an_empty_one(message: dict[str, str]) -> None:
    written, left = both(DEFAULT, [message, USER])
    assert left == written == plain([message, USER])


def test_beside_tools_the_text_of_the_template_stays() -> None:
    written, left = both(DEFAULT, [USER], [{"name": "f"}])
    assert left == written
    assert "You are ours." in left
    assert "# Tools" in left


@pytest.mark.parametrize("thinks", [False, True])
@pytest.mark.parametrize(
    "source",
    [
        "{% for m in messages %}{{ m.role }}{% endfor %}",
        with_system("''", around="Date: {{ strftime_now('%Y') }}\n{{ said }}"),
        with_system("''", around="{{ said }}{{ '/no_think' if not enable_thinking }}"),
        with_system("'Hm.'", around="{{ said }}{{ ' Think.' if enable_thinking }}"),
        "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}" + DEFAULT,
    ],
    ids=["no turn", "date around it", "switch in it", "wish in it", "no system message"],
)
def test_what_a_template_means_to_be_read_stays(source: str, thinks: bool) -> None:
    written, left = both(source, [USER], thinks=thinks)
    assert left == written
