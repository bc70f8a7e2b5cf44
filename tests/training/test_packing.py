"""What the model reads: documents apart, loss on what it is to learn, the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
from training.corpus import identity, stirring, tools
from training.corpus.source import Piece, Source

from training import packing, vocabulary

BATCH_TOKENS = 1_000


@pytest.fixture(scope="module")
def dataset() -> packing.Dataset:
    basics = packing.write("3/0", 3_000, "basics")
    everything = packing.write("3/0", 10_000, "everything")
    documents = [*basics, *everything, *packing.write("3/0", 3_000, "polish")]
    joined = np.concatenate([tokens for tokens, _ in documents])
    token_ids, rows = np.unique(joined, return_inverse=True)
    starts = np.cumsum([0, *(len(tokens) for tokens, _ in documents)])
    return packing.Dataset(
        token_ids,
        rows.astype(np.int32),
        np.concatenate([marks for _, marks in documents]),
        starts.astype(np.int64),
        len(basics),
        len(basics) + len(everything),
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


def test_answers_and_names_of_functions_are_learned_and_nothing_else() -> None:
    given = (
        'Get the tulip.\n{"name": "get_tulip", "arguments": {"name": "string"}}\n'
        "Open the rose.\n<function=open_rose>\n<parameter=name>\nstring\n"
        'Say: {"name": "x"} and <function=y>'
    )
    sample = (Piece(given, answer=False), Piece("Here you are.<|im_end|>", answer=True))
    # `=open` is one token, the first half of which is no part of the name.
    assert supervised_text(sample) == ["get_tulip", "_rose", "Here you are.<|im_end|>"]


def test_a_conversation_keeps_its_answers_whole() -> None:
    source = Source(11, held_out=False)
    for _ in range(20):
        sample = tools.generate(source)
        wanted = [piece.text for piece in sample if piece.answer]
        learned = supervised_text(sample)
        assert [text for text in learned if text in wanted] == wanted


def test_every_document_is_dealt_out_once(dataset: packing.Dataset) -> None:
    packed = packing.Packed(dataset, BATCH_TOKENS, seed=5)
    dealt = sorted(place for members in packed.bins + packed.polish for place in members)
    assert dealt == list(range(len(dataset.starts) - 1))


def test_basics_are_read_first(dataset: packing.Dataset) -> None:
    packed = packing.Packed(dataset, BATCH_TOKENS, seed=5)
    dealt = [place for members in packed.bins for place in members]
    assert sorted(dealt[: dataset.basics]) == list(range(dataset.basics))
    assert dealt[: dataset.basics] != list(range(dataset.basics))


def test_the_polish_is_read_apart(dataset: packing.Dataset) -> None:
    packed = packing.Packed(dataset, BATCH_TOKENS, seed=5)
    last = range(dataset.polish, len(dataset.starts) - 1)
    assert len(last) > 5
    assert sorted(place for members in packed.polish for place in members) == list(last)
    batch = packed.batch(1, polish=True)
    assert batch.lengths == tuple(packed.lengths[place] for place in packed.polish[1])


def test_stirring_changes_requests_and_never_answers() -> None:
    plain, stirred = Source(7, held_out=False), Source(7, held_out=False)
    make = stirring.stirred(lambda source: identity.generate(plain))
    changed = 0
    for _ in range(60):
        state = plain.random.getstate()
        made = make(stirred)
        plain.random.setstate(state)
        wanted = identity.generate(plain)
        assert [piece for piece in made if piece.answer] == [
            piece for piece in wanted if piece.answer
        ]
        changed += made != wanted
        for one, other in zip(made, wanted, strict=True):
            assert one.text.count("<|im_start|>") == other.text.count("<|im_start|>")
            assert abs(len(one.text) - len(other.text)) < 80
    assert 20 < changed < 60


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


@pytest.fixture
def drill(dataset: packing.Dataset) -> packing.Drill:
    return packing.Drill(dataset, 400, seed=5)


def documents_of(batch: packing.Batch) -> list[tuple[list[int], list[int]]]:
    cuts = np.cumsum(batch.lengths)[:-1]
    parts = (np.split(values, cuts) for values in (batch.tokens, batch.targets))
    return [(tokens.tolist(), targets.tolist()) for tokens, targets in zip(*parts, strict=True)]


def test_a_lookup_asks_only_for_what_it_has_shown(
    drill: packing.Drill, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "LOOKED_UP_SHARE", 1.0)
    for number in range(20):
        batch = drill.batch(number)
        assert len(batch.tokens) <= 400
        assert batch.answers > 40
        for tokens, targets in documents_of(batch):
            for place, target in enumerate(targets):
                assert target < 0 or target in tokens[: place + 1]


def test_a_list_is_written_again_word_for_word(
    dataset: packing.Dataset, drill: packing.Drill, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "LOOKED_UP_SHARE", 0.0)
    signs = {int(sign) for sign in drill.signs}

    def words(rows: list[int]) -> list[str]:
        ids = [
            int(dataset.token_ids[row]) if row not in signs else vocabulary.END_OF_TEXT
            for row in rows
        ]
        text = vocabulary.tokenizer().decode(ids, skip_special_tokens=False)
        return [word.strip(" _") for word in text.split("<|endoftext|>") if word.strip(" _")]

    seen = 0
    for number in range(20):
        for tokens, targets in documents_of(drill.batch(number)):
            first = next((place for place, target in enumerate(targets) if target >= 0), None)
            if first is None:
                continue
            asked = words([*tokens[first + 1 :], targets[-1]])[:-1]
            given = " ".join(words(tokens[: first + 1])).split()
            assert given[: len(asked)] == asked
            seen += len(asked)
    assert seen > 200
