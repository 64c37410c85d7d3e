"""The simulated reader: its formula by hand, and what it is for."""

from __future__ import annotations

import pytest

import text_duel
from text_duel.errors import ConfigError, OracleError
from text_duel.oracles import ask_oracle, check_oracle, check_oracle_config
from text_duel.oracles.reader import ReaderOracle, chrf, copying, is_cut, length_score
from text_duel.prompts import Prompt

POST = "My cat sleeps on the warm keyboard all day and I cannot work at my desk any more."
REFERENCE = "My cat keeps me from working by sleeping on the keyboard."


def score(response: str, reference: str | None = REFERENCE) -> float:
    prompt = Prompt("p", f"Summarise.\n\n{POST}", {"post": POST}, reference)
    return float(ReaderOracle().score([prompt], [response])[0])


def test_chrf_by_hand() -> None:
    # abcd and abxd: 3 of 4 characters, 1 of 3 pairs, no triple, no four; both ways alike.
    assert chrf("abcd", "abxd") == pytest.approx((3 / 4 + 1 / 3) / 4)
    # a b and a b c d: precision 1 in both orders, recall 2/4 and 1/3; longer ones are left out.
    recall = (2 / 4 + 1 / 3) / 2
    assert chrf("a b", "a b c d") == pytest.approx(5 * recall / (4 + recall))
    assert chrf("the same", "the same") == 1.0
    assert chrf("abc", "xyz") == 0.0
    assert chrf("", "xyz") == 0.0


def test_a_length_between_a_stub_and_a_retelling() -> None:
    of = {n: length_score("word " * n) for n in (0, 3, 6, 20, 30, 40, 90)}
    assert of == {0: 0.0, 3: 0.5, 6: 1.0, 20: 1.0, 30: 0.5, 40: 0.0, 90: 0.0}


def test_words_copied_in_runs_of_five() -> None:
    source = "one two three four five six seven"
    assert copying("One two, three four five!", source) == 1.0
    assert copying("one two three four", source) == 0.0
    assert copying("He said: two three four five six. That is all.", source) == 5 / 10
    assert copying("one two three four six five", source) == 0.0
    assert copying("?!", source) == 0.0


@pytest.mark.parametrize(
    ("response", "cut"),
    [("Done.", False), ('He said "no!"', False), ("(Really?) ", False), ("and then", True)],
)
def test_where_a_text_is_cut(response: str, cut: bool) -> None:
    assert is_cut(response) is cut


def test_the_score_is_the_sum_of_its_terms() -> None:
    response = "My cat sleeps on the warm keyboard and then"  # 9 words, 7 of them copied
    expected = 24 * chrf(response, REFERENCE) + 1.5 - 6 * 7 / 9 - 3
    assert score(response) == pytest.approx(expected)
    assert score(" \n") == -9
    assert score(REFERENCE) == 25.5


def test_what_a_reader_would_rather_read() -> None:
    good = "A cat that sleeps on my keyboard stops me from working."
    for worse in (
        "A cat that sleeps on my keyboard stops me from",
        "A delicate situation at home that many people know well.",
        POST,
        f"{good} It is a sweet animal, and I like it, but I have to finish my work at my desk, "
        "and I do not know what I could do about it, since it comes back again and again.",
        "Cat.",
        "",
    ):
        assert score(good) > score(worse), worse


def test_it_keeps_an_oracles_promises() -> None:
    oracle = text_duel.make_oracle("reader")
    check_oracle(oracle, text_duel.load_prompts("tldr_mini", limit=4))
    assert ask_oracle(oracle, [], [], []).win_probability.shape == (0,)


def test_it_needs_references() -> None:
    prompt = Prompt("p", POST, {"post": POST}, None)
    with pytest.raises(OracleError, match="prompt 'p' has no reference to compare with"):
        ask_oracle(ReaderOracle(), [prompt], ["a"], ["b"])
    with pytest.raises(ConfigError, match="oracle_config: oracle 'reader' has no key 'weight'"):
        check_oracle_config("reader", {"weight": 1})
