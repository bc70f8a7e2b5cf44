"""The explicit cache with real prompts: the page's examples, and what Qwen Code sends."""

from collections.abc import Callable

import pytest

from ownstudio.context_cache.cache import ContextCache
from ownstudio.context_cache.index import Found, MemoryIndex
from ownstudio.context_cache.prefix import Prefix
from ownstudio.core.request import Block, Message, Role, Tool, ToolCall
from support.turned_clock import TurnedClock

Planned = Callable[..., Prefix]

# "<|im_start|>user\n" are 3 tokens, each of these words is one.
A = " a" * 1197
B = " b" * 300
HEAD = 3


def message(*texts: str, at: tuple[int, ...] = (), role: Role = "user") -> Message:
    """One with blocks, of which those `at` these places are marked."""
    ends = [len("".join(texts[: place + 1])) for place in range(len(texts))]
    blocks = tuple(Block(end, place in at) for place, end in enumerate(ends))
    return Message(role, "".join(texts), blocks=blocks)


@pytest.fixture
def cache(clock: TurnedClock) -> ContextCache:
    index = MemoryIndex(implicit_ttl_s=3600, explicit_ttl_s=300, blocks_max=4096, monotonic=clock)
    return ContextCache(index, monotonic=clock)


async def answered(cache: ContextCache, prefix: Prefix) -> Found:
    found = await cache.look("a", "m", prefix)
    await cache.remember("a", "m", prefix)
    return found


async def test_a_of_1200_tokens_then_ab_of_1500(cache: ContextCache, planned: Planned) -> None:
    first = await answered(cache, planned([message(A, at=(0,))]))
    second = await answered(cache, planned([message(A, B, at=(1,))]))
    third = await answered(cache, planned([message(A, B, at=(1,))]))
    assert first.usage(0) == (0, 1200, True)
    assert second.usage(0) == (1200, 300, True)
    assert third.usage(0) == (1500, 0, True)


async def test_what_follows_the_marker_counts_as_plain_input(
    cache: ContextCache, planned: Planned
) -> None:
    prompt = planned([message(A, " What now?", at=(0,))])
    cached, created, _ = (await answered(cache, prompt)).usage(0)
    assert 0 < prompt.tokens - cached - created < 15


@pytest.mark.parametrize("next_text", ["\nb", " b", "b", "?", "\n\nb", "́", "。"])
@pytest.mark.parametrize("end", ["", " ", "\n", "a.\n", "e", "<|im_end|>", "你"])
async def test_a_block_is_hit_whatever_its_last_token_joins_with(
    cache: ContextCache, planned: Planned, end: str, next_text: str
) -> None:
    created = (await answered(cache, planned([message(A + end, at=(0,))]))).created_tokens
    longer = planned([message(A + end, next_text * 50, at=(1,))])
    assert created - 1 <= (await answered(cache, longer)).hit_tokens <= created


@pytest.mark.parametrize(("between", "hit"), [(18, True), (19, True), (20, False)])
async def test_the_look_back_is_twenty_blocks(
    cache: ContextCache, planned: Planned, between: int, hit: bool
) -> None:
    await answered(cache, planned([message(A, at=(0,))]))
    later = planned([message(A, *[" c"] * between, B, at=(between + 1,))])
    found = await answered(cache, later)
    assert found.hit_tokens == (1200 if hit else 0)
    assert found.hit_tokens + found.created_tokens == later.blocks[0].tokens


async def test_of_five_markers_the_first_makes_nothing(
    cache: ContextCache, planned: Planned
) -> None:
    five = [message(A, *[f" {n}" * 20 for n in range(4)], at=(0, 1, 2, 3, 4))]
    await answered(cache, planned(five))
    assert (await answered(cache, planned([message(A, at=(0,))]))).hit_tokens == 0
    only_second = planned([message(A, " 0" * 20, at=(1,))])
    assert (await answered(cache, only_second)).hit_tokens > 1200


async def test_a_marker_counts_even_where_it_comes_to_nothing(
    cache: ContextCache, planned: Planned
) -> None:
    for before in ([], [Message("system", A)]):
        prompt = planned([*before, message("", "hi", at=(0,))])
        for _ in range(2):
            assert (await answered(cache, prompt)).usage(1200) == (0, 0, True)


@pytest.mark.parametrize("role", ["system", "user", "assistant", "tool"])
async def test_every_role_can_be_marked(cache: ContextCache, planned: Planned, role: Role) -> None:
    call = Message("assistant", "", tool_calls=(ToolCall("f", "{}", "1"),))
    before = {"tool": [Message("user", "?"), call]}.get(role, [])
    prompt = planned([*before, message(A, at=(0,), role=role), Message("user", "Go on.")])
    assert (await answered(cache, prompt)).created_tokens >= 1200
    assert (await answered(cache, prompt)).created_tokens == 0


async def test_tools_are_part_of_what_is_cached(cache: ContextCache, planned: Planned) -> None:
    messages = [message(A, at=(0,))]
    tool = '{"type":"function","function":{"name":"f","description":"%s"}}'
    one, other = ((Tool("f", definition=tool.replace("%s", words)),) for words in ("x", "y"))
    with_tools = await answered(cache, planned(messages, one))
    assert with_tools.created_tokens > 1210
    assert (await answered(cache, planned(messages, one))).created_tokens == 0
    assert (await answered(cache, planned(messages, other))).hit_tokens == 0
    assert (await answered(cache, planned(messages))).hit_tokens == 0


async def test_qwen_code_marks_its_system_message_and_its_last_one(
    cache: ContextCache, planned: Planned, clock: TurnedClock
) -> None:
    """Each turn hits what the one before it made, and makes what is new up to its last message."""
    tools = (Tool("read_file", definition='{"type":"function","function":{"name":"read_file"}}'),)
    system = message("You are Qwen Code." + A, at=(0,), role="system")
    call = Message("assistant", "", tool_calls=(ToolCall("read_file", '{"path":"a"}', "1"),))
    result = Message("tool", "def a(): ..." + B, tool_call_id="1")
    question = "Fix the test." + " c" * 40

    def last(end: Message) -> Message:
        return Message(end.role, end.content, blocks=(Block(len(end.content), marked=True),))

    first = planned([system, last(Message("user", question))], tools)
    second = planned([system, Message("user", question), call, last(result)], tools)
    made = await answered(cache, first)
    assert made.usage(0) == (0, first.blocks[0].tokens, True)
    await clock.turn(250)
    went_on = await answered(cache, second)
    assert went_on.hit_tokens == first.blocks[0].tokens
    assert went_on.created_tokens == second.blocks[0].tokens - went_on.hit_tokens > 300
    other = planned([system, last(Message("user", "Something else."))], tools)
    found = await answered(cache, other)
    assert 1200 < found.hit_tokens == other.blocks[-1].tokens


async def test_a_conversation_without_markers_hits_what_it_sent_before(
    cache: ContextCache, planned: Planned
) -> None:
    first = planned([Message("user", A)])
    assert (await answered(cache, first)).usage(1199) == (0, 0, False)
    second = planned([Message("user", A), Message("assistant", "Yes."), Message("user", "More.")])
    cached, created, explicit = (await answered(cache, second)).usage(second.tokens - 1)
    assert (created, explicit) == (0, False)
    assert cached == HEAD + 1197 - (HEAD + 1197) % 32
