"""EmbeddingOracle and its encoder, on the real all-MiniLM-L6-v2."""

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from text_duel import EmbeddingOracle, OracleError, Prompt, check_oracle, load_prompts
from text_duel.encoders import MiniLMEncoder, minilm_path
from text_duel.oracles import embedding
from text_duel.oracles.embedding import EMPTY_SCORE, brevity, completeness

TEXTS = [
    "My neighbour's dog barks all night and I do not know how to tell her.",
    "Short.",
    "",
    "Ünïcode, emoji 🙂 and\nnewlines.",
    "the same words again and again " * 20,
]


@pytest.fixture(scope="module")
def encoder() -> MiniLMEncoder:
    return MiniLMEncoder()


@pytest.fixture(scope="module")
def oracle() -> EmbeddingOracle:
    return EmbeddingOracle()


@pytest.fixture(scope="module")
def prompts() -> list[Prompt]:
    return load_prompts("tldr_mini", limit=4)


def slow_embedding(text: str) -> np.ndarray:
    """One text, one window, no padding: the mean of its token states, normalised."""
    tokenizer = AutoTokenizer.from_pretrained(minilm_path())
    model = AutoModel.from_pretrained(minilm_path(), dtype=torch.float32)
    inputs = tokenizer(text, return_tensors="pt")
    assert inputs["input_ids"].shape[1] <= 256
    with torch.no_grad():
        mean = model(**inputs).last_hidden_state[0].mean(dim=0).double().numpy()
    return mean / np.linalg.norm(mean)


def test_encoder_equals_a_plain_forward_pass(encoder: MiniLMEncoder) -> None:
    expected = np.stack([slow_embedding(text) for text in TEXTS])
    embeddings = encoder.encode(TEXTS)
    assert embeddings.shape == (5, 384)
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(embeddings, expected, atol=1e-5)


def test_encoder_does_not_depend_on_the_batch(encoder: MiniLMEncoder) -> None:
    texts = [*TEXTS, "and a long one " * 400]
    together = encoder.encode(texts)
    alone = np.concatenate([encoder.encode([text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    small = MiniLMEncoder(batch_size=2).encode(texts)
    np.testing.assert_allclose(together, small, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-6)
    assert encoder.encode([]).shape == (0, 384)


def test_long_texts_are_not_cut(encoder: MiniLMEncoder) -> None:
    """What stands after the first window changes the embedding as much as what is in it."""
    start = "cats sleep on the warm roof " * 100  # 600 tokens
    plain, other, again = encoder.encode(
        [start, start + "taxes rise again " * 200, "taxes rise again " * 200]
    )
    assert plain @ other < 0.95
    assert other @ again > plain @ again + 0.1


def test_a_text_of_two_windows_is_the_mean_of_both(encoder: MiniLMEncoder) -> None:
    """Twice 254 one-token words: each window's state sum by hand, added, normalised."""
    halves = ["dog " * 254, "tax " * 254]
    tokenizer = AutoTokenizer.from_pretrained(minilm_path())
    model = AutoModel.from_pretrained(minilm_path(), dtype=torch.float32)
    total = np.zeros(384)
    for half in halves:
        inputs = tokenizer(half, return_tensors="pt")
        assert inputs["input_ids"].shape[1] == 256
        with torch.no_grad():
            total += model(**inputs).last_hidden_state[0].sum(dim=0).double().numpy()
    np.testing.assert_allclose(
        encoder.encode(["".join(halves)])[0], total / np.linalg.norm(total), atol=1e-5
    )


@pytest.mark.parametrize(
    ("words", "expected"), [(0, 1.0), (20, 1.0), (25, 0.75), (39, 0.05), (40, 0.0), (90, 0.0)]
)
def test_brevity(words: int, expected: float) -> None:
    assert brevity("word " * words) == pytest.approx(expected)


@pytest.mark.parametrize("response", ["Done.", "Done! \n", "'Why?'", "(It ended.)", "“No.”"])
def test_an_ended_sentence_is_complete(response: str) -> None:
    assert completeness(response) == 1.0


@pytest.mark.parametrize("response", ["Done", "so, it", "", ")", "a.m. at"])
def test_an_open_sentence_is_not_complete(response: str) -> None:
    assert completeness(response) == 0.0


def test_score_is_the_documented_formula(oracle: EmbeddingOracle, prompts: list[Prompt]) -> None:
    responses = [
        "I earn more than a colleague and do not know whether to tell her.",  # 13 words, ended
        "It is about darts and running and " * 5,  # 35 words, not ended
        prompts[2].reference,
        "word " * 45,
    ]
    bonus = [1 + 1, 0.25 + 0, 1 + 1, 0]
    expected = []
    for prompt, response, extra in zip(prompts, responses, bonus, strict=True):
        answer = slow_embedding(response)
        expected.append(
            6 * answer @ slow_embedding(prompt.reference)
            + 2 * answer @ slow_embedding(prompt.fields["post"])
            + extra
        )
    scores = oracle.score(prompts, responses)
    assert scores.shape == (4,)
    assert scores.dtype == np.float64
    np.testing.assert_allclose(scores, expected, atol=1e-4)
    assert scores.argmax() == 2
    np.testing.assert_allclose(
        oracle.compare(prompts[:1], responses[:1], [responses[1]]),
        1 / (1 + np.exp(oracle.score(prompts[:1], [responses[1]]) - scores[0])),
        atol=1e-6,
    )


def test_an_empty_response_has_the_formulas_lower_bound(
    oracle: EmbeddingOracle, prompts: list[Prompt]
) -> None:
    assert EMPTY_SCORE == 6 * -1 + 2 * -1 + 0 + 0
    scores = oracle.score(prompts, ["", " \n", "zzz qqq " * 30, "."])
    assert scores[:2].tolist() == [EMPTY_SCORE, EMPTY_SCORE]
    assert (scores[2:] > EMPTY_SCORE).all()


def test_source_texts_are_kept_up_to_a_limit(monkeypatch, prompts: list[Prompt]) -> None:
    oracle = EmbeddingOracle()
    expected = oracle.score(prompts, ["A response."] * 4)
    monkeypatch.setattr(embedding, "_MAX_KNOWN", 3)
    for i in (0, 1, 2, 3, 0):
        assert oracle.score([prompts[i]], ["A response."]) == pytest.approx(expected[i], abs=1e-4)
        assert len(oracle._known) <= 5


def test_a_prompt_without_reference_is_named(oracle: EmbeddingOracle) -> None:
    with pytest.raises(OracleError, match="prompt 'p7' has no reference"):
        oracle.score([Prompt("p7", "text", {"post": "text"}, None)], ["a"])
    assert oracle.score([], []).shape == (0,)


def test_it_passes_the_checker(oracle: EmbeddingOracle, prompts: list[Prompt]) -> None:
    check_oracle(oracle, prompts)
