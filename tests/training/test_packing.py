"""What the model reads: documents apart, loss on what it is to learn, the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
from training.corpus import tools
from training.corpus.source import Piece, Source

from training import packing, vocabulary

BATCH_TOKENS = 1_000


@pytest.fixture(scope="module")
def dataset() -> packing.Dataset:
    tokens, answers = packing.write("3/0", 10_000)
    joined = np.concatenate(tokens)
    token_ids, rows = np.unique(joined, return_inverse=True)
    starts = np.cumsum([0, *(len(document) for document in tokens)])
    return packing.Dataset(
        token_ids, rows.astype(np.int32), np.concatenate(answers), starts.astype(np.int64)
    )


def supervised_text(sample: tuple[Piece, ...]) -> list[str]:
    """Every unbroken stretch of tokens that the model is to foresee."""
    tokens, marks = packing.encode(sample)
    stretches: list[list[int]] = []
    for place, (token, mark) in enumerate(zip(tokens, marks, strict=True)):
        if mark and (place == 0 or not marks[place - 1]):
            stretches.append([])
        if mark:
            stretches[-1].append(token)
    return [vocabulary.tokenizer().decode(each, skip_special_tokens=False) for each in stretches]


def test_answers_and_descriptions_are_learned_and_nothing_else() -> None:
    line = '{"name": "get_tulip", "description": "Get the tulip.", "parameters": {}}'
    given = f'<tools>\n{line}\n</tools>\nSay: {{"name": "x", "description": "y"}}'
    sample = (Piece(given, answer=False), Piece("Here you are.<|im_end|>", answer=True))
    # The full stop is one token with the quote behind it, which tells nothing.
    assert supervised_text(sample) == ["Get the tulip", "Here you are.<|im_end|>"]


def test_a_conversation_keeps_its_answers_whole() -> None:
    source = Source(11, held_out=False)
    for _ in range(20):
        sample = tools.generate(source)
        wanted = [piece.text for piece in sample if piece.answer]
        learned = supervised_text(sample)
        assert [text for text in learned if text in wanted] == wanted


def test_every_document_is_dealt_out_once(dataset: packing.Dataset) -> None:
    packed = packing.Packed(dataset, BATCH_TOKENS, seed=5)
    dealt = sorted(place for members in packed.bins for place in members)
    assert dealt == list(range(len(dataset.starts) - 1))


def test_a_batch_is_its_documents_end_to_end(dataset: packing.Dataset) -> None:
    packed = packing.Packed(dataset, BATCH_TOKENS, seed=5)
    for number, members in enumerate(packed.bins):
        batch = packed.batch(number)
        assert len(batch.tokens) == sum(batch.lengths) <= BATCH_TOKENS
        first = 0
        for place, length in zip(members, batch.lengths, strict=True):
            span = slice(first, first + length)
            document = dataset.tokens[dataset.starts[place] : dataset.starts[place + 1]]
            learned = dataset.answers[dataset.starts[place] : dataset.starts[place + 1]][1:]
            assert batch.tokens[span].tolist() == document[:-1].tolist()
            assert batch.targets[span].tolist() == np.where(learned, document[1:], -1).tolist()
            positions = batch.positions[span]
            assert positions[0] in (0, positions[-1] - length + 1)
            assert (np.diff(positions) > 0).all()
            first += length


def test_batches_depend_on_seed_and_number_alone(dataset: packing.Dataset) -> None:
    one, same, other = (packing.Packed(dataset, BATCH_TOKENS, seed) for seed in (5, 5, 6))
    last = one.batch(7)
    assert last.tokens.tolist() == same.batch(7).tokens.tolist()
    assert last.positions.tolist() == same.batch(7).positions.tolist()
    assert last.tokens.tolist() == one.batch(7 + len(one.bins)).tokens.tolist()
    assert last.tokens.tolist() != other.batch(7).tokens.tolist()


def test_the_drill_asks_only_for_what_it_has_shown(dataset: packing.Dataset) -> None:
    drill = packing.Drill(dataset, 60, seed=5)
    for number in range(20):
        batch = drill.batch(number)
        assert len(batch.tokens) == 60
        assert 0 < batch.answers < 60
        for place in np.flatnonzero(batch.targets >= 0):
            before = batch.tokens[:place].tolist()
            shown = before.index(batch.tokens[place])
            assert batch.tokens[shown + 1] == batch.targets[place]
