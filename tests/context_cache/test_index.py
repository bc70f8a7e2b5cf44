"""The index in memory and in Redis: the same questions, the same answers."""

import random

import pytest

from ownstudio.context_cache.index import Fate, MemoryIndex, Owner, PrefixIndex
from ownstudio.context_cache.prefix import CacheBlock, Prefix, prefix_of
from support.turned_clock import TurnedClock

BLOCKS_MAX = 4096  # as the fixture has it
IDS = random.Random(6).choices(range(150_000), k=200_000)


def sent(tokens: int, *, first: int = 0) -> Prefix:
    """A prompt that marks nothing."""
    return prefix_of(IDS[first : first + tokens])


def block(tokens: int, *, marked: bool = False, digest: int = 0) -> CacheBlock:
    """A block that ends after so many tokens; its digest is made of the number, unless another is given."""
    return CacheBlock(tokens, (digest or tokens).to_bytes(16, "big"), marked)


def asking(*blocks: CacheBlock, tokens: int = 0) -> Prefix:
    return prefix_of(IDS[: tokens or max(b.tokens for b in blocks) + 13], blocks=blocks)


async def test_nothing_is_known_before_the_first_answer(index: PrefixIndex, owner: Owner) -> None:
    for _ in range(2):
        found = await index.look(owner, sent(1000))
        assert (found.shared_tokens, found.fate) == (0, Fate.NEVER)
        assert found.usage(1000) == (0, 0, False)


@pytest.mark.parametrize("tokens", [33, 256, 1000, 100_000])
async def test_what_was_sent_is_known_as_far_as_it_is_the_same(
    index: PrefixIndex, owner: Owner, tokens: int
) -> None:
    await index.remember(owner, sent(tokens))
    assert (await index.look(owner, sent(tokens))).shared_tokens == tokens
    longer = await index.look(owner, sent(tokens + 100))
    assert longer.shared_tokens == longer.seen_tokens == tokens - tokens % 32
    parted = await index.look(owner, prefix_of([*IDS[: tokens // 2], *IDS[150_000:150_200]]))
    assert parted.shared_tokens == tokens // 2 - tokens // 2 % 32


async def test_a_hit_is_what_the_engine_reused_of_what_was_sent(
    index: PrefixIndex, owner: Owner
) -> None:
    await index.remember(owner, sent(640))
    found = await index.look(owner, sent(800))
    for engine, cached in ((799, 640), (500, 500), (256, 256), (255, 0), (0, 0)):
        assert found.usage(engine) == (cached, 0, False)


async def test_less_than_256_tokens_are_no_hit(index: PrefixIndex, owner: Owner) -> None:
    await index.remember(owner, sent(255))
    assert (await index.look(owner, sent(255))).usage(254) == (0, 0, False)


async def test_nothing_is_shared_between_accounts_or_models(
    index: PrefixIndex, owner: Owner
) -> None:
    asked = asking(block(1200, marked=True))
    await index.remember(owner, asked)
    for other in (Owner(owner.account + "x", owner.model), Owner(owner.account, "qwen-max")):
        found = await index.look(other, asked)
        assert (found.shared_tokens, found.fate, found.block_fate) == (0, Fate.NEVER, Fate.NEVER)
        assert found.usage(1213) == (0, 1200, True)
        assert (await index.look(other, sent(1000))).usage(1000) == (0, 0, False)
    assert (await index.look(owner, asked)).usage(0) == (1200, 0, True)


async def test_owners_whose_names_run_together_are_not_the_same(
    index: PrefixIndex, owner: Owner
) -> None:
    await index.remember(Owner(owner.account, "ab"), sent(320))
    assert not (await index.look(Owner(owner.account + "a", "b"), sent(320))).shared_tokens


async def test_what_nobody_sends_again_expires(
    index: PrefixIndex, owner: Owner, clock: TurnedClock
) -> None:
    await index.remember(owner, sent(640))
    await clock.turn(3599)
    assert (await index.look(owner, sent(640))).shared_tokens == 640
    await index.remember(owner, sent(320))
    await clock.turn(2)
    found = await index.look(owner, sent(640))
    assert (found.shared_tokens, found.fate) == (320, Fate.EXPIRED)
    await clock.turn(3600)
    found = await index.look(owner, sent(640))
    assert (found.shared_tokens, found.fate) == (0, Fate.EXPIRED)


async def test_looking_does_not_prolong_what_was_sent(
    index: PrefixIndex, owner: Owner, clock: TurnedClock
) -> None:
    await index.remember(owner, sent(640))
    await clock.turn(3000)
    assert (await index.look(owner, sent(640))).shared_tokens == 640
    await clock.turn(700)
    assert (await index.look(owner, sent(640))).shared_tokens == 0


async def test_the_oldest_and_the_longest_beginnings_make_room_first(
    index: PrefixIndex, owner: Owner, clock: TurnedClock
) -> None:
    old = sent(3200)
    await index.remember(owner, old)
    await clock.turn(1)
    await index.remember(owner, sent(32 * (BLOCKS_MAX - 60), first=10_000))
    found = await index.look(owner, old)
    assert (found.shared_tokens, found.fate) == (60 * 32, Fate.EVICTED)
    await index.remember(owner, old)
    assert (await index.look(owner, old)).shared_tokens == 3200


@pytest.mark.parametrize("blocks", [1, 20, BLOCKS_MAX])
async def test_what_has_expired_is_known_to_have_whatever_came_after_it(
    index: PrefixIndex, owner: Owner, clock: TurnedClock, blocks: int
) -> None:
    await index.remember(owner, sent(640))
    await clock.turn(3601)
    await index.remember(owner, sent(32 * blocks, first=10_000))
    assert (await index.look(owner, sent(640))).fate is Fate.EXPIRED


# The page's own example: A of 1,200 tokens, then A and B of 1,500.
A, AB = block(1200, marked=True), block(1500, marked=True)


async def test_only_the_increment_is_created(index: PrefixIndex, owner: Owner) -> None:
    first = asking(A)
    assert (await index.look(owner, first)).usage(0) == (0, 1200, True)
    await index.remember(owner, first)
    second = asking(block(1200), AB)
    assert (await index.look(owner, second)).usage(0) == (1200, 300, True)
    await index.remember(owner, second)
    assert (await index.look(owner, second)).usage(0) == (1500, 0, True)


async def test_a_block_exists_only_once_its_answer_was_given(
    index: PrefixIndex, owner: Owner
) -> None:
    asked = asking(A)
    assert (await index.look(owner, asked)).usage(0) == (0, 1200, True)
    assert (await index.look(owner, asked)).usage(1212) == (0, 1200, True)
    await index.remember(owner, asked)
    assert (await index.look(owner, asked)).usage(0) == (1200, 0, True)


async def test_the_longest_of_several_blocks_is_hit(index: PrefixIndex, owner: Owner) -> None:
    await index.remember(owner, asking(A, AB))
    found = await index.look(owner, asking(A, AB, block(2000, marked=True)))
    assert found.usage(0) == (1500, 500, True)


async def test_blocks_below_1024_tokens_are_neither_made_nor_found(
    index: PrefixIndex, owner: Owner
) -> None:
    short = asking(block(1023, marked=True))
    for _ in range(2):
        assert (await index.look(owner, short)).usage(1030) == (0, 0, True)
        await index.remember(owner, short)
    long = asking(block(1023), block(1024, marked=True))
    assert (await index.look(owner, long)).usage(0) == (0, 1024, True)


async def test_an_unmarked_block_is_found_but_not_made(index: PrefixIndex, owner: Owner) -> None:
    await index.remember(owner, asking(block(1200), AB))
    assert (await index.look(owner, asking(A))).usage(0) == (0, 1200, True)
    assert (await index.look(owner, asking(block(1500), block(1600, marked=True)))).usage(0) == (
        *(1500, 100),
        True,
    )


async def test_a_block_lives_five_minutes_from_its_last_hit(
    index: PrefixIndex, owner: Owner, clock: TurnedClock
) -> None:
    await index.remember(owner, asking(A))
    for _ in range(3):
        await clock.turn(299)
        found = await index.look(owner, asking(A))
        assert (found.usage(0), found.block_fate) == ((1200, 0, True), Fate.NEVER)
    await clock.turn(301)
    found = await index.look(owner, asking(A))
    assert (found.usage(0), found.block_fate) == ((0, 1200, True), Fate.EXPIRED)


async def test_a_hit_prolongs_the_block_that_it_hits_alone(
    index: PrefixIndex, owner: Owner, clock: TurnedClock
) -> None:
    await index.remember(owner, asking(A, AB))
    await clock.turn(200)
    assert (await index.look(owner, asking(A, AB))).hit_tokens == 1500
    await index.remember(owner, asking(A, AB))
    await clock.turn(200)
    assert (await index.look(owner, asking(A))).hit_tokens == 0
    assert (await index.look(owner, asking(AB))).hit_tokens == 1500


async def test_what_became_of_a_longer_block_is_told(
    index: PrefixIndex, owner: Owner, clock: TurnedClock
) -> None:
    await index.remember(owner, asking(AB))
    await clock.turn(200)
    await index.remember(owner, asking(A))
    await clock.turn(200)
    found = await index.look(owner, asking(A, AB))
    assert (found.hit_tokens, found.block_fate) == (1200, Fate.EXPIRED)


async def test_the_modes_exclude_each_other_but_what_was_marked_was_also_sent(
    index: PrefixIndex, owner: Owner
) -> None:
    await index.remember(owner, sent(1213))
    assert (await index.look(owner, asking(A))).usage(1212) == (0, 1200, True)
    await index.remember(owner, asking(AB))
    assert (await index.look(owner, sent(1400))).usage(1399) == (1376, 0, False)


async def test_memory_holds_no_more_than_it_may_and_sweeps_little_by_little() -> None:
    clock = TurnedClock()
    index = MemoryIndex(
        implicit_ttl_s=10, explicit_ttl_s=10, blocks_max=BLOCKS_MAX, monotonic=clock
    )
    for first in range(0, 60_000, 10_000):
        await index.remember(Owner(str(first), "m"), sent(32_000, first=first))
        assert len(index) <= BLOCKS_MAX
    await clock.turn(11)
    for _ in range(BLOCKS_MAX // 64):
        await index.remember(Owner("late", "m"), sent(320))
    assert len(index) == 10
    assert (await index.look(Owner("50000", "m"), sent(32_000, first=50_000))).fate is Fate.EXPIRED
