"""Training and evaluation draw from sides that never meet, and the same seed says the same."""

from __future__ import annotations

from itertools import islice

from training.corpus import identity, words
from training.corpus.source import Pool, Source, lines

from training import corpus


def said(seed: int, *, held_out: bool) -> list[str]:
    drawn = islice(corpus.samples(Source(seed, held_out=held_out)), 40)
    return ["".join(piece.text for piece in sample) for _, sample in drawn]


def test_a_seed_fixes_the_corpus() -> None:
    assert said(7, held_out=False) == said(7, held_out=False)
    assert said(7, held_out=False) != said(8, held_out=False)


def test_sides_of_a_pool_never_meet() -> None:
    pools = [words.PEOPLE, words.CITIES, words.PLAIN, *(pool for _, pool, _ in identity.ASKED)]
    for pool in pools:
        assert pool.held_out
        assert pool.training
        assert not set(pool.held_out) & set(pool.training)


def test_held_out_numbers_are_others() -> None:
    sides = [
        {source.number(0, 99) for _ in range(500)}
        for source in (Source(1, held_out=False), Source(1, held_out=True))
    ]
    assert not sides[0] & sides[1]


def test_a_documented_wording_is_always_training() -> None:
    for known in "abcdef":
        assert known in lines("a\nb\nc\nd\ne\nf", known).training
    assert "Who are you?" not in identity.ASKED[0][1].held_out


def test_order_of_a_pool_does_not_move_its_split() -> None:
    values = [str(number) for number in range(30)]
    assert set(Pool(values).held_out) == set(Pool(values[::-1]).held_out)


def test_any_word_stands_for_a_name_in_training_and_only_held_out_ones_in_evaluation() -> None:
    held_out = {word.lower() for pool in words.POOLS for word in pool.held_out}
    assert not held_out & set(words.fresh_words())
    training, evaluation = Source(1, held_out=False), Source(1, held_out=True)
    drawn = {words.person(training) for _ in range(500)}
    assert len(drawn) > len(words.PEOPLE.training)
    assert not {name.lower() for name in drawn} & held_out
    assert {words.person(evaluation) for _ in range(500)} == set(words.PEOPLE.held_out)
    assert {words.place(evaluation) for _ in range(500)} == set(words.CITIES.held_out)
