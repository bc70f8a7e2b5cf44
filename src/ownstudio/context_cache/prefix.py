"""A prompt as the cache knows it: hashes of its beginnings, never its text (pure).

Two kinds of beginnings are kept apart. For the implicit cache every 32nd token ends one, and so does every turn, which
tells later in which message two prompts part. For the explicit one the ends of content blocks do, exactly where they
are; of those only the last four that are marked count, and from each the 20 blocks before it, which an earlier request
may have marked. Each hash of the first kind covers all the tokens before it: whoever has sent one has sent them all.
"""

import sys
from array import array
from collections.abc import Iterable, Sequence
from hashlib import blake2b

from msgspec import Struct

from ownstudio.context_cache.layout import Layout
from ownstudio.core.events import TokenId
from ownstudio.core.request import Message

BLOCK_TOKENS = 32
HASH_BYTES = 16
IMPLICIT_TOKENS_MIN = 256
EXPLICIT_TOKENS_MIN = 1024
MARKERS_MAX = 4
LOOK_BACK_BLOCKS = 20

_SEED = bytes(HASH_BYTES)
_ID_BYTES = 4
_BLOCK_BYTES = BLOCK_TOKENS * _ID_BYTES


class CacheBlock(Struct, frozen=True):
    """A prompt up to the end of a content block: so many tokens, with a digest of what they say."""

    tokens: int
    digest: bytes
    marked: bool = False


class Prefix(Struct, frozen=True):
    """The beginnings of a prompt of so many `tokens`.

    `cuts` are the lengths of the beginnings that the implicit cache knows, in order, `hashes` theirs one after the
    other; `turns` tells which of them begin a turn. `blocks` are those of the explicit cache, the longest first;
    `explicit` says that the request has marked something, though it may have come to nothing.
    """

    tokens: int = 0
    cuts: tuple[int, ...] = ()
    hashes: bytes = b""
    turns: tuple[int, ...] = ()
    explicit: bool = False
    blocks: tuple[CacheBlock, ...] = ()
    layout: Layout | None = None

    def hash_of(self, cut: int) -> bytes:
        """The hash of the beginning with this number."""
        return self.hashes[HASH_BYTES * cut : HASH_BYTES * (cut + 1)]


class Wanted(Struct, frozen=True):
    """The end of a content block that the explicit cache asks about, as a place in the conversation."""

    message: int
    end: int
    marked: bool


def wanted(messages: Sequence[Message]) -> list[Wanted]:
    """The markers that count, with the blocks before each where an earlier request may have had one. In order."""
    if not any(message.blocks for message in messages):
        return []
    ends: list[tuple[int, int]] = []
    markers: list[int] = []
    for place, message in enumerate(messages):
        if not message.blocks:
            ends.append((place, len(message.content)))
        for block in message.blocks:
            if block.marked:
                markers.append(len(ends))
            ends.append((place, block.end))
    markers = markers[-MARKERS_MAX:]
    reached = {
        number
        for marker in markers
        for number in range(max(0, marker - LOOK_BACK_BLOCKS), marker + 1)
    }
    return [Wanted(*ends[number], marked=number in markers) for number in sorted(reached)]


def prefix_of(
    token_ids: Sequence[TokenId],
    *,
    turn: TokenId | None = None,
    blocks: Iterable[CacheBlock] | None = None,
    layout: Layout | None = None,
) -> Prefix:
    """`turn` is the token that opens a turn; `blocks` is None where nothing is marked."""
    packed = _packed(token_ids)
    turns = _places(packed, turn) if turn is not None else []
    cuts: list[int] = []
    hashes: list[bytes] = []
    chain = _SEED
    ahead = [place for place in reversed(turns) if place % BLOCK_TOKENS]
    for start in range(0, len(token_ids), BLOCK_TOKENS):
        at = start * _ID_BYTES
        while ahead and ahead[-1] < start + BLOCK_TOKENS:
            cuts.append(ahead.pop())
            hashes.append(_hash(chain + packed[at : cuts[-1] * _ID_BYTES]))
        # The last block may be short: the prompt as a whole is a beginning too.
        chain = _hash(chain + packed[at : at + _BLOCK_BYTES])
        cuts.append(min(start + BLOCK_TOKENS, len(token_ids)))
        hashes.append(chain)
    return Prefix(
        tokens=len(token_ids),
        cuts=tuple(cuts),
        hashes=b"".join(hashes),
        turns=tuple(turns),
        explicit=blocks is not None,
        blocks=tuple(
            sorted(
                (block for block in blocks or () if block.tokens >= EXPLICIT_TOKENS_MIN),
                key=lambda block: -block.tokens,
            )
        ),
        layout=layout,
    )


def _hash(content: bytes) -> bytes:
    return blake2b(content, digest_size=HASH_BYTES).digest()


def _packed(token_ids: Sequence[TokenId]) -> bytes:
    """Four bytes for each id, the same on every machine."""
    packed = array("I", token_ids)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def _places(packed: bytes, token_id: TokenId) -> list[int]:
    """Where a token stands."""
    needle = token_id.to_bytes(_ID_BYTES, "little")
    places: list[int] = []
    at = packed.find(needle)
    while at >= 0:
        if at % _ID_BYTES == 0:
            places.append(at // _ID_BYTES)
        at = packed.find(needle, at + 1)
    return places
