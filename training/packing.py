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
from itertools import pairwise
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
STAGES = {
    "basics": corpus.BASICS,
    "everything": corpus.EVERYTHING,
    "polish": corpus.POLISH,
}
PARTS = 2  # of the corpus, each with its seed, written at the same time
# A function's name has the words of what it is for, which stands before it: worth foreseeing.
DECLARED = re.compile(r'^(?:\{"name": "([^"]+)"|<function=([^>]+)>$)', re.MULTILINE)
HELD_OUT_SAMPLES = 4_000  # read for their tokens only, so that their rows exist
FREQUENT_ROWS = 1_500
SIGNS = 60
LOOKED_UP_SHARE = 0.4
SHORTEST_DRILL, LONGEST_DRILL = 32, 128  # tokens of a document
RAREST = 50  # a token that occurs less often in the corpus gets no row

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Dataset:
    """Documents end to end; `answers` marks what the model has to write."""

    token_ids: Ids  # the trained tokens, in order: row number -> token id
    tokens: NDArray[np.int32]  # row numbers
    answers: NDArray[np.bool_]  # and what else it learns to foresee
    starts: Ids  # where each document begins, and the end of the last
    basics: int  # the first documents, so many, are read before all others
    polish: int  # and those from here on after all others


def encode(sample: Sample) -> tuple[list[int], list[bool]]:
    tokenizer = vocabulary.tokenizer()
    tokens: list[int] = []
    supervised: list[bool] = []
    for piece in sample:
        encoded = tokenizer.encode(piece.text, add_special_tokens=False)
        tokens += encoded.ids
        marks = [piece.answer] * len(encoded.ids)
        for told in () if piece.answer else DECLARED.finditer(piece.text):
            first, last = told.span(told.lastindex or 0)
            for place, (start, end) in enumerate(encoded.offsets):
                marks[place] |= first <= start and end <= last
        supervised += marks
    return tokens, supervised


def documents(
    seed: int | str, *, held_out: bool, mixture: corpus.Mixture = corpus.EVERYTHING
) -> Iterator[tuple[list[int], list[bool]]]:
    for _, sample in corpus.samples(Source(seed, held_out=held_out), mixture):
        tokens, answers = encode(sample)
        if len(tokens) <= LONGEST_DOCUMENT + 1:
            yield tokens, answers


Counts = tuple[int, int, int]  # tokens of each stage
Documents = list[tuple[NDArray[np.int32], NDArray[np.bool_]]]


def write(seed: str, token_count: int, stage: str) -> Documents:
    """Documents of so many tokens together: their tokens and marks."""
    written: Documents = []
    label = f"corpus {stage} {seed}"
    with tqdm(total=token_count, desc=label, unit=" tokens", mininterval=5) as bar:
        for ids, marks in documents(f"{seed}/{stage}", held_out=False, mixture=STAGES[stage]):
            written.append((np.array(ids, np.int32), np.array(marks, np.bool_)))
            bar.update(len(ids))
            if bar.n >= token_count:
                return written
    raise AssertionError("the mixture never ends")


def build(seed: int, counts: Counts) -> Dataset:
    asked = [
        (f"{seed}/{part}", -(-count // PARTS), stage)
        for stage, count in zip(STAGES, counts, strict=True)
        for part in range(PARTS)
    ]
    with ProcessPoolExecutor(PARTS, get_context("spawn")) as writers:
        parts = list(writers.map(write, *zip(*asked, strict=True)))
    tokens = [document for part in parts for document, _ in part]
    answers = [marks for part in parts for _, marks in part]
    basics, everything = (sum(len(part) for part in parts[: stage * PARTS]) for stage in (1, 2))
    starts = np.cumsum([0, *(len(document) for document in tokens)])
    joined_tokens = np.concatenate(tokens)
    # The last stage has no words of its own.
    token_ids = _trained_tokens(joined_tokens[: starts[everything]], seed)
    rows = np.searchsorted(token_ids, joined_tokens)
    known = token_ids[np.minimum(rows, len(token_ids) - 1)] == joined_tokens
    rows = np.where(known, rows, len(token_ids))
    marks = np.concatenate(answers) & known
    return Dataset(token_ids, rows.astype(np.int32), marks, starts, basics, everything)


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


def load(folder: Path, seed: int, counts: Counts) -> Dataset:
    """The dataset of this seed, from the file if an earlier run made it."""
    path = folder / f"corpus-{seed}-{'-'.join(map(str, counts))}.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        made = build(seed, counts)
        np.savez(path, **vars(made))
        return made
    with np.load(path) as kept:
        arrays = {name: kept[name] for name in kept.files}
        sizes = {name: int(arrays[name]) for name in ("basics", "polish")}
        return Dataset(**arrays | sizes)


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
        chance = np.random.default_rng(seed)
        borders = (0, dataset.basics, dataset.polish, len(self.lengths))
        basics, everything, self.polish = (
            _first_fit(
                chance.permutation(np.arange(first, last)).tolist(), self.lengths, batch_tokens
            )
            for first, last in pairwise(borders)
        )
        self.bins = basics + everything

    def batch(self, number: int, *, polish: bool = False) -> Batch:
        """The documents of this number; after the last batch the first comes again."""
        bins = self.polish if polish else self.bins
        return joined([self._document(place) for place in bins[number % len(bins)]])

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
    """Arbitrary words, to be looked up by their keys or written again in another form.

    To step from a key to its value or from an item to the next, over whatever stands between them, to
    see where it ends, and to know how a word is written where no space precedes it, is what arguments,
    JSON and names in code need, and what a small model discovers late and all at once. Dense practice
    brings that moment forward.
    """

    def __init__(self, dataset: Dataset, length: int, seed: int) -> None:
        counts = np.bincount(dataset.tokens, minlength=len(dataset.token_ids))
        texts = [vocabulary.tokenizer().decode([token]) for token in dataset.token_ids]
        by_use = np.argsort(counts[: len(texts)])[::-1]
        spelled = np.array([any(letter.isalnum() for letter in text) for text in texts])
        self.signs = by_use[~spelled[by_use]][:SIGNS]  # they stand between words
        self.words = by_use[spelled[by_use]]
        self.forms = _forms(dataset.token_ids, texts)
        self.in_pieces = [forms for forms in self.forms if len(forms[1]) > 1]
        self.length = length
        self.seed = seed

    def batch(self, number: int) -> Batch:
        """Documents of one length in all; every other batch keeps to frequent tokens."""
        chance = np.random.default_rng((self.seed, number))
        words = self.words[:FREQUENT_ROWS] if number % 4 < 2 else self.words
        documents: list[Batch] = []
        left = self.length
        while left > SHORTEST_DRILL:
            size = min(left, int(chance.integers(SHORTEST_DRILL, LONGEST_DRILL)))
            if chance.random() < LOOKED_UP_SHARE:
                documents.append(_lookups(chance, words, self.signs, size))
            else:
                documents.append(self._rewritten(chance, size))
            left -= size
        return joined(documents)

    def _rewritten(self, chance: np.random.Generator, size: int) -> Batch:
        """A list of words, each after a space, then the same list in another form."""
        items = [
            pool[int(chance.integers(len(pool)))]
            for _ in range(size // 6)
            for pool in ((self.forms, self.in_pieces)[int(chance.integers(2))],)
        ]
        lead, between, behind = _signs(chance, self.signs)
        form = int(chance.choice(3, p=(0.15, 0.65, 0.2)))
        tokens = [token for forms in items for token in (*forms[0], *between)] + lead
        counted = [False] * len(tokens)
        for place, forms in enumerate(items):
            tokens += [*forms[form], *behind]
            counted += [True] * len(forms[form]) + [place > 0] * len(behind)
        return _document(tokens, counted, size)


# One word as rows: after a space, without one, after an underline.
Forms = tuple[list[int], list[int], list[int]]


def _forms(token_ids: Ids, texts: Sequence[str]) -> list[Forms]:
    """All words that are one token after a space, as far as the pieces of their other forms have rows."""
    found = [text[1:] for text in texts if re.fullmatch(" [A-Za-z]{2,}", text)]
    row_of = {int(token): row for row, token in enumerate(token_ids)}
    forms: list[Forms] = []
    for word in found:
        shapes = [
            [row_of.get(token, -1) for token in vocabulary.tokenizer().encode(f"{lead}{word}").ids]
            for lead in (" ", "", "_")
        ]
        if all(row >= 0 for shape in shapes for row in shape):
            forms.append((shapes[0], shapes[1], shapes[2]))
    return forms


def _signs(chance: np.random.Generator, signs: Ids) -> tuple[list[int], list[int], list[int]]:
    """What stands before, between and behind, up to two signs each and at least one behind."""
    lead, between, behind = (
        chance.choice(signs, size).tolist() for size in chance.integers(3, size=3)
    )
    return lead, between, behind or [int(signs[0])]


def _document(tokens: list[int], counted: list[bool], size: int) -> Batch:
    written, supervised = np.array(tokens[: size + 1]), np.array(counted[: size + 1])
    targets = np.where(supervised[1:], written[1:], -1)
    return Batch(written[:-1], np.arange(len(written) - 1), targets, (len(written) - 1,))


def _lookups(chance: np.random.Generator, words: Ids, signs: Ids, size: int) -> Batch:
    """One document: pairs in one form, then some of them again in another, of which values count."""
    fresh = iter(chance.choice(words, size, replace=False).tolist())

    def some(least: int, most: int) -> list[int]:
        return [next(fresh) for _ in range(int(chance.integers(least, most + 1)))]

    lead, between, behind = _signs(chance, signs)
    pairs = [(some(1, 2), some(1, 3)) for _ in range(int(chance.integers(2, 2 + size // 14)))]
    tokens: list[int] = []
    for key, value in pairs:
        tokens += [*lead, *key, *between, *value, *behind]
    counted = [False] * len(tokens)
    if chance.random() < 0.7:
        lead, between, behind = _signs(chance, signs)
    asked = 0
    while len(tokens) <= size:
        key, value = pairs[int(chance.integers(len(pairs)))]
        given, answer = [*lead, *key, *between], [*value, *behind]
        tokens += given + answer
        # In the first answers the end is still unknown: nothing has shown it yet.
        shown = len(value) + (1 if asked else 0)
        counted += [False] * len(given) + [place < shown for place in range(len(answer))]
        asked += 1
    return _document(tokens, counted, size)
