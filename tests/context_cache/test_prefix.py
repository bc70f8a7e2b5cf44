"""Prompts as hashes: a beginning is the same exactly where all its tokens are, and markers count as documented."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ownstudio.context_cache.prefix import (
    BLOCK_TOKENS,
    CacheBlock,
    Prefix,
    Wanted,
    prefix_of,
    wanted,
)
from ownstudio.core.request import Block, Message

TURN = 7


def beginnings(prefix: Prefix) -> dict[int, bytes]:
    return {cut: prefix.hash_of(number) for number, cut in enumerate(prefix.cuts)}


IDS = st.lists(st.sampled_from([1, 2, TURN, 256 * TURN, TURN << 16]), max_size=120)


@given(IDS, IDS, IDS)
def test_two_prompts_share_a_beginning_exactly_where_they_share_its_tokens(
    shared: list[int], rest: list[int], other: list[int]
) -> None:
    one, two = shared + rest, shared + other
    common = next(
        (place for place, (a, b) in enumerate(zip(one, two, strict=False)) if a != b),
        min(len(one), len(two)),
    )
    first, second = (beginnings(prefix_of(ids, turn=TURN)) for ids in (one, two))
    for cut in first.keys() & second.keys():
        assert (first[cut] == second[cut]) == (cut <= common)
    assert len(set(first.values())) == len(first)


@given(IDS)
def test_beginnings_end_with_every_block_every_turn_and_the_prompt(ids: list[int]) -> None:
    prefix = prefix_of(ids, turn=TURN)
    turns = [place for place, token in enumerate(ids) if token == TURN]
    expected = {*range(BLOCK_TOKENS, len(ids), BLOCK_TOKENS), *turns, len(ids)} - {0}
    assert prefix.cuts == tuple(sorted(expected))
    assert prefix.turns == tuple(turns)
    assert len(prefix.hashes) == 16 * len(prefix.cuts)


def test_raw_text_has_no_turns() -> None:
    assert prefix_of([TURN] * 40).cuts == (32, 40)


def test_only_blocks_long_enough_to_be_cached_are_kept_the_longest_first() -> None:
    blocks = [CacheBlock(tokens, bytes(16)) for tokens in (1023, 1024, 3000, 2000)]
    prefix = prefix_of([1] * 3000, blocks=blocks)
    assert [block.tokens for block in prefix.blocks] == [3000, 2000, 1024]
    assert prefix.explicit
    assert not prefix_of([1]).explicit
    assert prefix_of([1], blocks=[]).explicit


def marked(*texts: str, at: tuple[int, ...] = ()) -> Message:
    ends = [len("".join(texts[: place + 1])) for place in range(len(texts))]
    blocks = tuple(Block(end, place in at) for place, end in enumerate(ends))
    return Message("user", "".join(texts), blocks=blocks)


def test_without_a_marker_nothing_is_wanted() -> None:
    assert wanted([Message("user", "x"), marked("a", "b")]) == []


def test_only_the_last_four_of_five_markers_count() -> None:
    found = wanted([marked(*"abcde", at=(0, 1, 2, 3, 4))])
    assert [end.marked for end in found] == [False, True, True, True, True]


@pytest.mark.parametrize("blocks", [1, 20, 21, 50])
def test_as_many_as_twenty_blocks_before_a_marker_are_wanted(blocks: int) -> None:
    before = [Message("user", "x")] * blocks
    found = wanted([*before, marked("ab", "c", at=(0,))])
    reached = min(blocks, 20)
    assert [end.message for end in found] == [*range(blocks - reached, blocks), blocks]
    assert found[-1] == Wanted(blocks, 2, marked=True)
    assert not any(end.marked for end in found[:-1])
