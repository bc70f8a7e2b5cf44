"""Parts of prompts whose templates do things another way than the bundled one."""

import time

from ownstudio.context_cache.layout import Layout
from ownstudio.core.request import ChatPrompt, Message, Tool

OPEN = 9
TOOLS = (Tool("f"),)


def encode(text: str) -> list[int]:
    return [100 + ord(letter) for letter in text]


def parts(prompt: ChatPrompt, *turns: str) -> str:
    """One letter for the part of each token of these turns."""
    token_ids = [token for turn in turns for token in (OPEN, *encode(turn))]
    opening = [place for place, token in enumerate(token_ids) if token == OPEN]
    layout = Layout(prompt, token_ids, encode)
    names = [layout.part_at(place, opening) for place in range(len(token_ids))]
    return "".join(
        f"{place}{name} " if place == 0 or name != names[place - 1] else ""
        for place, name in enumerate(names)
    ).strip()


def test_a_system_message_behind_the_tools() -> None:
    messages = (Message("system", "kindly\n"), Message("user", "hi"))
    prompt = ChatPrompt(messages, tools=TOOLS)
    assert parts(prompt, "s:tools tools kindly", "u:hi", "a:") == (
        "0tools 15system 21messages[1] (user) 26template"
    )


def test_a_system_message_before_the_tools() -> None:
    messages = (Message("system", "kindly"), Message("user", "hi"))
    prompt = ChatPrompt(messages, tools=TOOLS)
    assert parts(prompt, "s:kindly tools", "u:hi", "a:") == (
        "0system 9tools 15messages[1] (user) 20template"
    )


def test_a_long_system_message_before_the_tools() -> None:
    text = "Be kind. " * 300 + "Go."
    prompt = ChatPrompt((Message("system", text), Message("user", "hi")), tools=TOOLS)
    assert parts(prompt, f"s:{text} tools", "u:hi", "a:") == (
        "0system 2706tools 2712messages[1] (user) 2717template"
    )


def test_a_long_system_message_behind_the_tools() -> None:
    text = "Be kind. " * 300 + "Go."
    prompt = ChatPrompt((Message("system", text), Message("user", "hi")), tools=TOOLS)
    assert parts(prompt, f"s:tools tools {text}", "u:hi", "a:") == (
        "0tools 15system 2718messages[1] (user) 2723template"
    )


def test_a_long_system_message_whose_last_words_the_tools_repeat() -> None:
    text = "Be kind. " * 300 + "Go."
    prompt = ChatPrompt((Message("system", text), Message("user", "hi")), tools=TOOLS)
    assert parts(prompt, f"s:{text} {text}", "u:hi", "a:") == (
        "0system 2706tools 5410messages[1] (user) 5415template"
    )


def test_a_blank_system_message_has_no_part() -> None:
    prompt = ChatPrompt((Message("system", " "), Message("user", "hi")), tools=TOOLS)
    assert parts(prompt, "s:tools", "u:hi", "a:") == (
        "0system 1tools 8messages[1] (user) 13template"
    )


def test_a_long_system_message_is_not_made_into_tokens_whole() -> None:
    text = "word " * 100_000 + "end"
    asked: list[int] = []

    def counted(piece: str) -> list[int]:
        asked.append(len(piece))
        return encode(piece)

    prompt = ChatPrompt((Message("system", text), Message("user", "hi")), tools=TOOLS)
    token_ids = [OPEN, *encode(f"s:{text} tools"), OPEN, *encode("u:hi"), OPEN]
    layout = Layout(prompt, token_ids, counted)
    turns = [place for place, token in enumerate(token_ids) if token == OPEN]
    assert layout.part_at(1000, turns) == "system"
    assert sum(asked) < 2000


def test_a_word_said_again_and_again_is_found_at_once() -> None:
    said = 100_000
    token_ids = [OPEN, *[100] * 2 * said, 90, *[100] * said, 101, 102, OPEN, 104, OPEN, 105]
    prompt = ChatPrompt((Message("system", "a" * said + "bc"), Message("user", "d")), tools=TOOLS)
    layout = Layout(prompt, token_ids, lambda text: [ord(letter) + 3 for letter in text])
    began = time.perf_counter()
    assert layout.part_at(3 * said, [0, 3 * said + 4, 3 * said + 6]) == "system"
    assert time.perf_counter() - began < 1


def test_a_system_turn_that_the_template_makes_up() -> None:
    messages = (Message("user", "hi"),)
    assert parts(ChatPrompt(messages), "s:I am Qwen", "u:hi", "a:") == (
        "0template 12messages[0] (user) 17template"
    )
    assert parts(ChatPrompt(messages, tools=TOOLS), "s:tools", "u:hi", "a:") == (
        "0tools 8messages[0] (user) 13template"
    )


def test_tool_messages_share_a_turn() -> None:
    messages = (Message("user", "hi"), *[Message("tool", "1")] * 3, Message("tool", "2"))
    assert parts(ChatPrompt(messages), "u", "1112", "a") == (
        "0messages[0] (user) 2messages[1..4] (tool) 7template"
    )


def test_turns_that_do_not_fit_the_messages_are_counted() -> None:
    assert parts(ChatPrompt((Message("user", "hi"),)), "a", "b", "c", "d") == (
        "0turn 0 2turn 1 4turn 2 6turn 3"
    )
    assert parts(ChatPrompt((Message("user", "hi"),)), "u") == "0turn 0"
