"""From samples to batches of token numbers: tokenized once, kept in a file, packed without mixing.

A batch is one flat line of documents, each of which sees only itself, so nothing is padded and
attention costs no more than the documents are long. A token's number is the place of its row
among the trained rows of the embedding.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from training import corpus, vocabulary
from training.corpus import copying
from training.corpus.source import Sample, Source

LONGEST_DOCUMENT = 768
JUMP_SHARE, LONGEST_JUMP = 0.1, 3_500
PARTS = 2  # of the corpus, each with its seed, written at the same time
# What a function is for has the words of a request, and follows from the name: worth foreseeing.
DESCRIPTION = re.compile(r'^\{"name": "[^"]+", "description": "([^"]+)"', re.MULTILINE)
HELD_OUT_SAMPLES = 4_000  # read for their tokens only, so that their rows exist
FREQUENT_ROWS = 1_500
RAREST = 50  # a token that occurs less often in the corpus gets no row

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Dataset:
    """Documents end to end; `answers` marks what the model has to write."""

    token_ids: Ids  # the trained tokens, in order: row number -> token id
    tokens: NDArray[np.int32]  # row numbers
    answers: NDArray[np.bool_]  # and what else it learns to foresee
    starts: Ids  # where each document begins, and the end of the last


def encode(sample: Sample) -> tuple[list[int], list[bool]]:
    tokenizer = vocabulary.tokenizer()
    tokens: list[int] = []
    supervised: list[bool] = []
    for piece in sample:
        encoded = tokenizer.encode(piece.text, add_special_tokens=False)
        tokens += encoded.ids
        marks = [piece.answer] * len(encoded.ids)
        for told in () if piece.answer else DESCRIPTION.finditer(piece.text):
            first, last = told.span(1)
            for place, (start, end) in enumerate(encoded.offsets):
                marks[place] |= first <= start and end <= last
        supervised += marks
    return tokens, supervised


def documents(seed: int | str, *, held_out: bool) -> Iterator[tuple[list[int], list[bool]]]:
    for _, sample in corpus.samples(Source(seed, held_out=held_out)):
        tokens, answers = encode(sample)
        if len(tokens) <= LONGEST_DOCUMENT + 1:
            yield tokens, answers


def write(seed: str, token_count: int) -> tuple[list[NDArray[np.int32]], list[NDArray[np.bool_]]]:
    """Documents of so many tokens together, and their marks."""
    tokens: list[NDArray[np.int32]] = []
    answers: list[NDArray[np.bool_]] = []
    with tqdm(total=token_count, desc=f"corpus {seed}", unit=" tokens", mininterval=5) as bar:
        for ids, marks in documents(seed, held_out=False):
            tokens.append(np.array(ids, np.int32))
            answers.append(np.array(marks, np.bool_))
            bar.update(len(ids))
            if bar.n >= token_count:
                return tokens, answers
    raise AssertionError("the mixture never ends")


def build(seed: int, token_count: int) -> Dataset:
    share = -(-token_count // PARTS)
    seeds = [f"{seed}/{part}" for part in range(PARTS)]
    with ProcessPoolExecutor(PARTS, get_context("spawn")) as writers:
        parts = list(writers.map(write, seeds, [share] * PARTS))
    tokens = [document for part, _ in parts for document in part]
    answers = [marks for _, part in parts for marks in part]
    starts = np.cumsum([0, *(len(document) for document in tokens)])
    joined_tokens = np.concatenate(tokens)
    token_ids = _trained_tokens(joined_tokens, seed)
    rows = np.searchsorted(token_ids, joined_tokens)
    known = token_ids[np.minimum(rows, len(token_ids) - 1)] == joined_tokens
    rows = np.where(known, rows, len(token_ids))
    return Dataset(token_ids, rows.astype(np.int32), np.concatenate(answers) & known, starts)


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
class Batch:
    """Documents end to end; a target of -1 is not supervised."""

    tokens: Ids
    positions: Ids
    targets: Ids
    lengths: tuple[int, ...]  # of the documents, in order

    @property
    def answers(self) -> int:
        return int((self.targets >= 0).sum())


def joined(batches: Sequence[Batch]) -> Batch:
    return Batch(
        np.concatenate([batch.tokens for batch in batches]),
        np.concatenate([batch.positions for batch in batches]),
        np.concatenate([batch.targets for batch in batches]),
        tuple(length for batch in batches for length in batch.lengths),
    )


class Packed:
    """All documents of a dataset in a random order, dealt out to batches of about one size."""

    def __init__(self, dataset: Dataset, batch_tokens: int, seed: int) -> None:
        self.dataset = dataset
        self.seed = seed
        self.lengths = np.diff(dataset.starts) - 1  # the last token is only ever a target
        order = np.random.default_rng(seed).permutation(len(self.lengths))
        self.bins = _first_fit([int(place) for place in order], self.lengths, batch_tokens)

    def batch(self, number: int) -> Batch:
        """The documents of this number; after the last batch the first comes again."""
        return joined([self._document(place) for place in self.bins[number % len(self.bins)]])

    def _document(self, place: int) -> Batch:
        start, size = int(self.dataset.starts[place]), int(self.lengths[place])
        tokens = self.dataset.tokens[start : start + size + 1].astype(np.int64)
        supervised = self.dataset.answers[start + 1 : start + size + 1]
        targets = np.where(supervised, tokens[1:], -1)
        positions = _positions(size, np.random.default_rng((self.seed, place)))
        return Batch(tokens[:-1], positions, targets, (size,))


def _first_fit(
    places: list[int], lengths: Ids, length: int, open_bins: int = 24
) -> list[list[int]]:
    """Puts each document into the fullest of a few open bins that still has room."""
    bins: list[tuple[int, list[int]]] = []
    closed: list[list[int]] = []
    for place in places:
        size = int(lengths[place])
        roomy = [index for index, (used, _) in enumerate(bins) if used + size <= length]
        if roomy:
            best = max(roomy, key=lambda index: bins[index][0])
            used, members = bins[best]
            members.append(place)
            bins[best] = (used + size, members)
            continue
        bins.append((size, [place]))
        if len(bins) > open_bins:
            fullest = max(range(len(bins)), key=lambda index: bins[index][0])
            closed.append(bins.pop(fullest)[1])
    return closed + [members for _, members in bins]


def _positions(size: int, chance: np.random.Generator) -> Ids:
    """Mostly 0, 1, 2, ...; sometimes with a jump, so that far distances are not new later."""
    positions = np.arange(size)
    if size > 8 and chance.random() < JUMP_SHARE:
        positions[chance.integers(1, size) :] += chance.integers(1, LONGEST_JUMP)
    return positions


class Drill:
    """Arbitrary tokens in which stretches come again: what follows can only be copied.

    Small models learn to copy late and all at once. Until they have, names, arguments and file
    paths are noise to them; dense practice brings that moment forward.
    """

    def __init__(self, dataset: Dataset, length: int, seed: int) -> None:
        counts = np.bincount(dataset.tokens, minlength=len(dataset.token_ids))
        self.rows = len(dataset.token_ids)
        self.frequent = np.argsort(counts[: self.rows])[-FREQUENT_ROWS:]
        self.length = length
        self.seed = seed

    def batch(self, number: int) -> Batch:
        """One document for every number; every other one keeps to frequent tokens."""
        chance = np.random.default_rng((self.seed, number))
        length = self.length + 1
        fresh = int(chance.integers(length // 5, length // 2))
        # No token twice, so that one token is enough to tell what came next.
        choices = self.frequent if number % 4 < 2 else self.rows
        first = chance.choice(choices, fresh, replace=False)
        pieces, marks = [first], [np.zeros(fresh, np.bool_)]
        size = fresh
        while size < length:
            start = int(chance.integers(0, fresh - 2))
            piece = first[start : start + int(chance.integers(2, 30))]
            pieces.append(piece)
            marks.append(np.arange(len(piece)) > 0)
            size += len(piece)
        written, copied = np.concatenate(pieces)[:length], np.concatenate(marks)[:length]
        targets = np.where(copied[1:], written[1:], -1)
        return Batch(written[:-1], np.arange(self.length), targets, (self.length,))
