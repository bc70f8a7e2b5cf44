"""Why did it miss? The first part that broke is named, the reason is true, and no client learns of another account."""

from collections.abc import Callable

import pytest

from ownstudio.context_cache.diagnosis import Cause, Diagnosis, explain
from ownstudio.context_cache.index import Found, MemoryIndex, Owner
from ownstudio.context_cache.prefix import Prefix, prefix_of
from ownstudio.core.request import Block, Message, Tool, ToolCall
from support.turned_clock import TurnedClock

Planned = Callable[..., Prefix]

ME = Owner("me", "qwen-plus")
LONG = " ".join(f"rule {number}" for number in range(200))
SYSTEM = Message("system", LONG)
FUNCTION = '{"type":"function","function":{"name":"f","description":"' + LONG + '"}}'
TOOLS = (Tool("f", definition=FUNCTION),)
TALK = (
    Message("user", "What time is it?"),
    Message("assistant", "", tool_calls=(ToolCall("f", "{}", "1"), ToolCall("f", "{}", "2"))),
    Message("tool", "noon", tool_call_id="1"),
    Message("tool", "midday", tool_call_id="2"),
    Message("assistant", "It is noon."),
    Message("user", "Thank you."),
)  # fmt: skip


@pytest.fixture
def index(clock: TurnedClock) -> MemoryIndex:
    return MemoryIndex(implicit_ttl_s=3600, explicit_ttl_s=300, blocks_max=500, monotonic=clock)


async def diagnosis(
    index: MemoryIndex, prefix: Prefix, engine_cached: int, *, owner: Owner = ME
) -> Diagnosis:
    return explain(await index.look(owner, prefix), prefix, engine_cached)


async def part_of(index: MemoryIndex, prefix: Prefix) -> str:
    return (await diagnosis(index, prefix, (await index.look(ME, prefix)).shared_tokens)).part


def changed(place: int) -> list[Message]:
    messages = [SYSTEM, *TALK]
    messages[place] = Message(
        messages[place].role, messages[place].content + " Now.", tool_calls=messages[place].tool_calls
    )  # fmt: skip
    return messages


@pytest.mark.parametrize(
    ("place", "part"),
    [
        (0, "system"),
        (1, "messages[1] (user)"),
        (2, "messages[2] (assistant)"),
        (3, "messages[3..4] (tool)"),
        (4, "messages[3..4] (tool)"),
        (5, "messages[5] (assistant)"),
        (6, "messages[6] (user)"),
    ],
)
@pytest.mark.parametrize("tools", [(), TOOLS])
async def test_the_first_message_that_differs_is_named_however_short_it_is(
    index: MemoryIndex, planned: Planned, place: int, part: str, tools: tuple[Tool, ...]
) -> None:
    await index.remember(ME, planned([SYSTEM, *TALK], tools))
    assert await part_of(index, planned(changed(place), tools)) == part


async def test_a_message_that_is_new_is_named(index: MemoryIndex, planned: Planned) -> None:
    await index.remember(ME, planned([SYSTEM, *TALK]))
    more = [SYSTEM, *TALK, Message("assistant", "You are welcome."), Message("user", "Bye.")]
    assert await part_of(index, planned(more)) == "messages[7] (assistant)"


async def test_tools_are_told_from_the_system_message_beside_them(
    index: MemoryIndex, planned: Planned
) -> None:
    await index.remember(ME, planned([SYSTEM, *TALK], TOOLS))
    other = (Tool("f", definition=FUNCTION.replace("rule 9", "law 9")),)
    assert await part_of(index, planned([SYSTEM, *TALK], other)) == "tools"
    assert await part_of(index, planned(changed(0), TOOLS)) == "system"
    await index.remember(ME, planned(TALK, TOOLS))
    assert await part_of(index, planned(TALK, other)) == "tools"


async def test_what_no_message_says_is_the_template(index: MemoryIndex, planned: Planned) -> None:
    await index.remember(ME, planned([SYSTEM, *TALK]))
    assert await part_of(index, planned([SYSTEM, *TALK], thinking=True)) == "template"


async def test_raw_text_is_just_the_prompt(index: MemoryIndex) -> None:
    assert await part_of(index, prefix_of(list(range(300)))) == "prompt"


async def test_a_partial_answer_is_a_message(index: MemoryIndex, planned: Planned) -> None:
    await index.remember(ME, planned([SYSTEM, *TALK]))
    begun = Message("assistant", "You are", partial=True)
    assert await part_of(index, planned([SYSTEM, *TALK, begun])) == "messages[7] (assistant)"


async def test_what_is_whole_needs_no_reason(index: MemoryIndex, planned: Planned) -> None:
    prompt = planned([SYSTEM, *TALK])
    await index.remember(ME, prompt)
    told = await diagnosis(index, prompt, prompt.tokens - 1)
    assert (told.cause, told.part) == (Cause.NOTHING, "")
    tokens = prompt.tokens
    cached = tokens - tokens % 32
    assert told.for_client == f"cached {cached} of {tokens} tokens, shared {tokens}"


async def test_a_short_prompt_is_just_short(index: MemoryIndex, planned: Planned) -> None:
    told = await diagnosis(index, planned([Message("user", "hi")]), 0)
    assert told.for_client.endswith(": fewer than 256 tokens are not cached")


async def test_what_has_expired_is_told_from_what_is_new(
    index: MemoryIndex, planned: Planned, clock: TurnedClock
) -> None:
    prompt = planned([SYSTEM, *TALK])
    assert (await diagnosis(index, prompt, 0)).cause is Cause.NEW
    await index.remember(ME, prompt)
    await clock.turn(3601)
    told = await diagnosis(index, prompt, 0)
    assert told.for_client == f"cached 0 of {prompt.tokens} tokens, shared 0, then system: expired"


async def test_what_made_room_is_told(index: MemoryIndex, planned: Planned) -> None:
    prompt = planned([SYSTEM, *TALK])
    await index.remember(ME, prompt)
    await index.remember(ME, prefix_of(list(range(32 * 500))))
    assert (await diagnosis(index, prompt, 0)).cause is Cause.EVICTED


async def test_an_engine_that_lost_it_is_named(index: MemoryIndex, planned: Planned) -> None:
    prompt = planned([SYSTEM, *TALK])
    await index.remember(ME, prompt)
    told = await diagnosis(index, prompt, 300)
    assert (told.cached, told.cause, told.part) == (300, Cause.ENGINE, "system")


async def test_a_client_cannot_tell_what_another_account_has_sent(
    index: MemoryIndex, planned: Planned
) -> None:
    prompt = planned([SYSTEM, *TALK])
    fresh = await diagnosis(index, prompt, 0, owner=Owner("other", "qwen-plus"))
    await index.remember(ME, prompt)
    shared = await diagnosis(index, prompt, prompt.tokens - 1, owner=Owner("other", "qwen-plus"))
    assert shared.cause is Cause.OTHER_ACCOUNT
    assert "another account" in shared.for_log
    assert shared.for_client == fresh.for_client
    assert "not sent before by this account" in shared.for_client


async def test_an_answer_that_comes_back_is_not_taken_for_another_account(
    index: MemoryIndex, planned: Planned
) -> None:
    await index.remember(ME, planned([SYSTEM, Message("user", "Why?")]))
    answer = Message("assistant", LONG)
    prompt = planned([SYSTEM, Message("user", "Why?"), answer, Message("user", "And?")])
    told = await diagnosis(index, prompt, prompt.tokens - 10)
    assert (told.cause, told.part) == (Cause.NEW, "messages[2] (assistant)")


def marked(text: str) -> Message:
    return Message("user", text, blocks=(Block(len(text), marked=True),))


async def test_the_reasons_of_the_explicit_cache(
    index: MemoryIndex, planned: Planned, clock: TurnedClock
) -> None:
    long = "word " * 1200
    prompt, longer = planned([marked(long)]), planned([marked(long + "more " * 40)])
    assert (await diagnosis(index, planned([marked("hi")]), 0)).cause is Cause.SHORT_BLOCK
    told = await diagnosis(index, prompt, 0)
    assert (told.cause, told.part) == (Cause.NEW, "messages[0] (user)")
    await index.remember(ME, planned([Message("user", long)]))
    assert (await diagnosis(index, prompt, 1200)).cause is Cause.NO_BLOCK
    await index.remember(ME, prompt)
    assert (await diagnosis(index, prompt, 0)).cause is Cause.NOTHING
    assert (await diagnosis(index, longer, 0)).cause is Cause.NEW
    await clock.turn(301)
    assert (await diagnosis(index, prompt, 1200)).cause is Cause.EXPIRED


def test_an_index_that_was_not_asked_is_no_miss_of_the_prompt() -> None:
    told = explain(Found(asked=False), prefix_of(list(range(400))), 399)
    assert told.for_client == (
        "cached 0 of 400 tokens, shared 0: the prefix index could not be asked"
    )
