"""From samples to rows of token ids: tokenized once, kept in a file, packed without mixing.

Documents are packed into rows of two lengths (attention over short rows is much cheaper) and see
only themselves. A row's token number is its place among the trained rows of the embedding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training import corpus, vocabulary
from training.corpus import copying
from training.corpus.source import Sample, Source

ROW_LENGTHS = (256, 512)
JUMP_SHARE, LONGEST_JUMP = 0.15, 3_500
HELD_OUT_SAMPLES = 4_000  # read for their tokens only, so that their rows exist
LOOK_AHEAD = 40
FREQUENT_ROWS = 1_500
RAREST = 50  # a token that occurs less often in the corpus gets no row

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Dataset:
    """Documents end to end; `answers` marks what the model has to write."""

    token_ids: Ids  # the trained tokens, in order: row number -> token id
    tokens: NDArray[np.int32]  # row numbers
    answers: NDArray[np.bool_]
    starts: Ids  # where each document begins, and the end of the last


def encode(sample: Sample) -> tuple[list[int], list[bool]]:
    tokenizer = vocabulary.tokenizer()
    tokens: list[int] = []
    answers: list[bool] = []
    for piece in sample:
        ids = tokenizer.encode(piece.text, add_special_tokens=False).ids
        tokens += ids
        answers += [piece.answer] * len(ids)
    return tokens, answers


def documents(seed: int, *, held_out: bool) -> Iterator[tuple[list[int], list[bool]]]:
    for _, sample in corpus.samples(Source(seed, held_out=held_out)):
        tokens, answers = encode(sample)
        if len(tokens) <= ROW_LENGTHS[-1] + 1:
            yield tokens, answers


def build(seed: int, token_count: int) -> Dataset:
    tokens: list[NDArray[np.int32]] = []
    answers: list[NDArray[np.bool_]] = []
    starts = [0]
    for ids, marks in documents(seed, held_out=False):
        tokens.append(np.array(ids, np.int32))
        answers.append(np.array(marks, np.bool_))
        starts.append(starts[-1] + len(ids))
        if starts[-1] >= token_count:
            break
    joined = np.concatenate(tokens)
    token_ids = _trained_tokens(joined, seed)
    rows = np.searchsorted(token_ids, joined)
    known = token_ids[np.minimum(rows, len(token_ids) - 1)] == joined
    rows = np.where(known, rows, len(token_ids))
    marks = np.concatenate(answers) & known
    return Dataset(token_ids, rows.astype(np.int32), marks, np.array(starts, np.int64))


def _trained_tokens(tokens: NDArray[np.int32], seed: int) -> Ids:
    """Frequent ones, special ones, the pieces of all words, and what the corpus keeps using."""
    often = np.flatnonzero(np.bincount(tokens, minlength=vocabulary.ROWS) >= RAREST)
    unseen = documents(seed, held_out=True)
    held_out = np.bincount(
        [token for _ in range(HELD_OUT_SAMPLES) for token in next(unseen)[0]],
        minlength=vocabulary.ROWS,
    )
    special = vocabulary.END_OF_TEXT + np.arange(len(vocabulary.SPECIAL_TOKENS))
    familiar = np.array(copying.copyable_tokens())
    unseen_often = np.flatnonzero(held_out >= RAREST // 5)
    return np.unique(np.concatenate([often, unseen_often, special, familiar])).astype(np.int64)


def load(folder: Path, seed: int, token_count: int) -> Dataset:
    """The dataset of this seed, from the file if an earlier run made it."""
    path = folder / f"corpus-{seed}-{token_count}.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        made = build(seed, token_count)
        np.savez(
            path,
            token_ids=made.token_ids,
            tokens=made.tokens,
            answers=made.answers,
            starts=made.starts,
        )
        return made
    with np.load(path) as kept:
        return Dataset(kept["token_ids"], kept["tokens"], kept["answers"], kept["starts"])


@dataclass(frozen=True)
class Rows:
    """Packed rows of one length; a target of -1 is not supervised."""

    tokens: NDArray[np.int32]
    positions: NDArray[np.int32]
    documents: NDArray[np.int16]
    targets: NDArray[np.int32]

    def take(self, places: Ids) -> Rows:
        return Rows(
            self.tokens[places],
            self.positions[places],
            self.documents[places],
            self.targets[places],
        )


def pack(dataset: Dataset, seed: int) -> dict[int, Rows]:
    """All documents in a random order: short ones in short rows, or in the gaps of long rows."""
    chance = np.random.default_rng(seed)
    lengths = np.diff(dataset.starts) - 1  # the last token is only ever a target
    order = [int(place) for place in chance.permutation(len(lengths))]
    short, long = ROW_LENGTHS
    waiting = [place for place in order if lengths[place] <= short]
    long_rows = _first_fit([place for place in order if lengths[place] > short], lengths, long)
    for row in long_rows:
        room = long - sum(int(lengths[place]) for place in row)
        while fitting := [place for place in waiting[:LOOK_AHEAD] if lengths[place] <= room]:
            best = max(fitting, key=lambda place: lengths[place])
            waiting.remove(best)
            row.append(best)
            room -= int(lengths[best])
    short_rows = _first_fit(waiting, lengths, short)
    return {
        short: _fill(dataset, short_rows, lengths, short, chance),
        long: _fill(dataset, long_rows, lengths, long, chance),
    }


def _fill(
    dataset: Dataset,
    bins: list[list[int]],
    lengths: Ids,
    length: int,
    chance: np.random.Generator,
) -> Rows:
    shape = (len(bins), length)
    tokens, positions = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    owners, targets = np.full(shape, -1, np.int16), np.full(shape, -1, np.int32)
    for row, members in enumerate(bins):
        column = 0
        for number, place in enumerate(members):
            start, size = int(dataset.starts[place]), int(lengths[place])
            span = slice(column, column + size)
            document = dataset.tokens[start : start + size + 1]
            tokens[row, span] = document[:-1]
            supervised = dataset.answers[start + 1 : start + size + 1]
            targets[row, span] = np.where(supervised, document[1:], -1)
            owners[row, span] = number
            positions[row, span] = _positions(size, chance)
            column += size
    return Rows(tokens, positions, owners, targets)


def _first_fit(
    places: list[int], lengths: Ids, length: int, open_bins: int = 24
) -> list[list[int]]:
    """Puts each document into the fullest of a few open rows that still has room."""
    rows: list[tuple[int, list[int]]] = []
    closed: list[list[int]] = []
    for place in places:
        size = int(lengths[place])
        roomy = [index for index, (used, _) in enumerate(rows) if used + size <= length]
        if roomy:
            best = max(roomy, key=lambda index: rows[index][0])
            used, members = rows[best]
            members.append(place)
            rows[best] = (used + size, members)
            continue
        rows.append((size, [place]))
        if len(rows) > open_bins:
            fullest = max(range(len(rows)), key=lambda index: rows[index][0])
            closed.append(rows.pop(fullest)[1])
    return closed + [members for _, members in rows]


def _positions(size: int, chance: np.random.Generator) -> NDArray[np.int32]:
    """Mostly 0, 1, 2, ...; sometimes with a jump, so that far distances are not new later."""
    positions = np.arange(size, dtype=np.int32)
    if size > 8 and chance.random() < JUMP_SHARE:
        positions[chance.integers(1, size) :] += chance.integers(1, LONGEST_JUMP)
    return positions


class Drill:
    """Rows of arbitrary tokens in which stretches come again: what follows can only be copied.

    Small models learn to copy late and all at once. Until they have, names, arguments and file
    paths are noise to them; dense practice brings that moment forward.
    """

    def __init__(self, dataset: Dataset, seed: int) -> None:
        counts = np.bincount(dataset.tokens, minlength=len(dataset.token_ids))
        self.rows = len(dataset.token_ids)
        self.frequent = np.argsort(counts[: self.rows])[-FREQUENT_ROWS:]
        self.seed = seed

    def batch(self, step: int, count: int) -> Rows:
        """Its own rows for every step; half of the rows keep to frequent tokens."""
        chance = np.random.default_rng((self.seed, step))
        length = ROW_LENGTHS[0]
        tokens, targets = (
            np.zeros((count, length), np.int32),
            np.full((count, length), -1, np.int32),
        )
        for row in range(count):
            written, copied = self._row(chance, length + 1, frequent=row % 2 == 0)
            tokens[row] = written[:-1]
            targets[row] = np.where(copied[1:], written[1:], -1)
        positions = np.tile(np.arange(length, dtype=np.int32), (count, 1))
        return Rows(tokens, positions, np.zeros((count, length), np.int16), targets)

    def _row(
        self, chance: np.random.Generator, length: int, *, frequent: bool
    ) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        fresh = int(chance.integers(length // 5, length // 2))
        # No token twice, so that one token is enough to tell what came next.
        choices = self.frequent if frequent else self.rows
        first = chance.choice(choices, fresh, replace=False)
        pieces, marks = [first], [np.zeros(fresh, np.bool_)]
        size = fresh
        while size < length:
            start = int(chance.integers(0, fresh - 2))
            piece = first[start : start + int(chance.integers(2, 30))]
            pieces.append(piece)
            marks.append(np.arange(len(piece)) > 0)
            size += len(piece)
        return np.concatenate(pieces)[:length].astype(np.int32), np.concatenate(marks)[:length]
