"""Keyed randomness: no dependence on how a round is shared."""

from rllib_sea.randomness import Stream, generator, integer_seeds, prompt_order


def test_a_draw_depends_on_its_key_alone() -> None:
    whole = integer_seeds(7, 3, range(8), Stream.SAMPLING)
    parts = integer_seeds(7, 3, range(4), Stream.SAMPLING) + integer_seeds(
        7, 3, range(4, 8), Stream.SAMPLING
    )
    assert whole == parts
    assert len(set(whole)) == 8


def test_streams_rounds_and_seeds_differ() -> None:
    keys = [
        (0, 0, 0, Stream.SAMPLING),
        (0, 0, 0, Stream.LABEL),
        (0, 1, 0, Stream.LABEL),
        (1, 0, 0, Stream.LABEL),
    ]
    assert len({generator(*key).random() for key in keys}) == len(keys)


def test_every_epoch_visits_every_prompt_once() -> None:
    walk = prompt_order(5, seed=1, start=0, count=15)
    assert [sorted(walk[i : i + 5]) for i in (0, 5, 10)] == [[0, 1, 2, 3, 4]] * 3
    assert walk[:5] != walk[5:10] or walk[5:10] != walk[10:]


def test_a_walk_goes_on_where_it_stopped() -> None:
    whole = prompt_order(7, seed=2, start=0, count=20)
    assert prompt_order(7, 2, 0, 6) + prompt_order(7, 2, 6, 14) == whole
