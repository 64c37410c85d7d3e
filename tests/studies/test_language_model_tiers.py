"""The tiny-language-model tier: its reward, its decoder, its curves, and that sweeps go on."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from rllib_sea import SEAConfig
from rllib_sea.cli.recipes import recipes
from rllib_sea.cli.yaml_files import read_yaml
from rllib_sea.reward_model.encoder import MeanPoolingEncoder
from studies.bandit.methods import RECIPE
from studies.bandit.results import append_run, read_runs
from studies.language_models.command import in_order, main, missing
from studies.language_models.curves import COLUMNS, POINTS, CurveRecorder
from studies.language_models.methods import (
    EARLY,
    METHODS,
    control_of,
    method_keys,
    replayed_control_of,
)
from studies.language_models.rates import name_of, rates_table
from studies.language_models.report import win_rates_at_kl, write_report
from studies.language_models.sweep import CurveWriter, Run, run_all
from studies.smollm2 import config as smollm2
from studies.tiny_lm import config as tiny_lm
from studies.tiny_lm import decoder as decoder_module
from studies.tiny_lm.decoder import PROMPTS, DecoderSettings, fit, fitted_decoder
from studies.tiny_lm.reward import SCALE, WordNetworkOracle
from studies.tiny_lm.text import posts, write_prompts
from studies.tiny_lm.words import DIM, vocabulary, word_vectors, words_of, write_encoder
from text_duel import ConfigError, check_oracle
from text_duel.prompts import load_prompts

SMALL = DecoderSettings(
    vocabulary=400, width=32, inner_width=64, layers=1, heads=1, window=16, steps=12, batch=8
)


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Small products are faster on one core than on several."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def small_decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RLLIB_SEA_CACHE", str(tmp_path_factory.mktemp("cache")))
        return fitted_decoder(SMALL)


def prompts_of(folder: Path, split: str = "train") -> Any:
    return load_prompts(
        str(folder), split=split, template="{post}", columns={"reference": None}, limit=50
    )


# -- The reward -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """2000 random bags of the corpus' words, of 1 to 14 words."""
    words = np.array(" ".join(t for sentences in posts("train") for t in sentences).split())
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(words, size=rng.integers(1, 15))) for _ in range(2000)]


def test_the_reward_keeps_an_oracles_promises(small_decoder: Path):
    check_oracle(WordNetworkOracle(3), prompts_of(small_decoder / PROMPTS))


def test_the_reward_by_hand(small_decoder: Path):
    oracle, prompts = WordNetworkOracle(3), prompts_of(small_decoder / PROMPTS)[:1]
    first, second = (oracle._vectors[word] for word in vocabulary()[:2])
    prompt_words = sorted(
        {w for w in prompts[0].text.lower().replace(",", " ").split() if w in oracle._vectors}
    )
    asked = sum(oracle._vectors[w] for w in prompt_words) / math.sqrt(len(prompt_words))
    units = np.tanh(
        (first + second) / math.sqrt(2) @ oracle._response + asked @ oracle._prompt + oracle._bias
    )
    expected = (units @ oracle._out - oracle._mean) * oracle._factor
    text = " ".join(vocabulary()[:2]).upper()
    assert oracle.score(prompts, [text])[0] == pytest.approx(expected)
    # Words without a vector, and words again, change nothing.
    assert oracle.score(prompts, [f"xyzzy {text}, {text} {text}!"])[0] == pytest.approx(expected)


def test_the_reward_is_not_length_and_depends_on_the_prompt(small_decoder: Path, texts: list[str]):
    lengths = [len(text.split()) for text in texts]
    prompts = prompts_of(small_decoder / PROMPTS)
    correlations = []
    for seed in range(6):
        oracle = WordNetworkOracle(seed)
        one, other = (oracle.score([p] * len(texts), texts) for p in (prompts[0], prompts[-1]))
        correlations.append(np.corrcoef(lengths, one)[0, 1])
        assert 0.4 * SCALE < one.std() < 1.6 * SCALE
        assert np.corrcoef(one, other)[0, 1] < 0.999
    # A world may happen to like many words; worlds as such do not.
    assert abs(np.mean(correlations)) < 0.2


def test_a_reward_is_its_seed(small_decoder: Path, texts: list[str]):
    prompts = prompts_of(small_decoder / PROMPTS)[:1] * len(texts)
    score = WordNetworkOracle(1).score(prompts, texts)
    assert (score == WordNetworkOracle(1).score(prompts, texts)).all()
    assert abs(np.corrcoef(score, WordNetworkOracle(2).score(prompts, texts))[0, 1]) < 0.9


@pytest.mark.parametrize("config", [{"seed": -1}, {"scale": 0.0}])
def test_a_reward_refuses_what_makes_no_sense(config: dict[str, Any]):
    with pytest.raises(ConfigError, match=f"oracle_config.{next(iter(config))}"):
        WordNetworkOracle(**config)


# -- The decoder and its prompts ------------------------------------------------------


def test_the_decoder_loads_and_learns(small_decoder: Path, tmp_path: Path):
    model = AutoModelForCausalLM.from_pretrained(small_decoder)
    tokenizer = AutoTokenizer.from_pretrained(small_decoder)
    assert len(tokenizer) == 400 == model.config.vocab_size
    ids = tokenizer("I have just")["input_ids"]
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.decode(ids, skip_special_tokens=True) == "I have just"
    loss = fit(DecoderSettings(**(vars(SMALL) | {"steps": 60, "lr": 1e-2})), tmp_path)
    assert loss < 0.9 * math.log(400)


def test_the_same_settings_give_the_same_weights(small_decoder: Path, tmp_path: Path):
    torch.manual_seed(5)
    fit(SMALL, tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path).state_dict()
    for name, value in AutoModelForCausalLM.from_pretrained(small_decoder).state_dict().items():
        assert torch.equal(value, again[name]), name


def test_a_decoder_is_fitted_once(monkeypatch: pytest.MonkeyPatch, small_decoder: Path):
    monkeypatch.setenv("RLLIB_SEA_CACHE", str(small_decoder.parent))
    calls = []
    monkeypatch.setattr(decoder_module, "fit", lambda settings, folder: calls.append(settings))
    assert fitted_decoder(SMALL) == small_decoder
    assert calls == []
    other = DecoderSettings(**(vars(SMALL) | {"seed": 1}))
    assert fitted_decoder(other) != small_decoder
    assert calls == [other]


def test_prompts_are_openings_and_test_ones_were_never_fitted(tmp_path: Path):
    write_prompts(tmp_path)
    train = [
        p.text
        for p in load_prompts(
            str(tmp_path), split="train", template="{post}", columns={"reference": None}
        )
    ]
    test = [
        p.text
        for p in load_prompts(
            str(tmp_path), split="test", template="{post}", columns={"reference": None}
        )
    ]
    assert len(set(train)) == len(train) > 3000
    assert 256 <= len(set(test)) == len(test)
    sentences = [s for sentences in posts("train") for s in sentences]
    assert all(any(s.startswith(opening) for s in sentences) for opening in train[:50])
    assert len(set(train) & set(test)) < 0.05 * len(test)  # common phrases


def test_the_encoder_knows_the_words_of_the_reward_and_nothing_else(tmp_path: Path):
    write_encoder(tmp_path, positions=64)
    encoder = MeanPoolingEncoder(tmp_path)
    assert encoder.dim == DIM
    vectors = word_vectors()
    np.testing.assert_allclose([np.mean(v**2) for v in vectors.values()], 1.0)
    texts = ["The a I", "i THE... a!", "the the xyzzyx a", "mother's", "xyzzyx", ""]
    bags = [
        sum(vectors[w] for w in words)
        for words in (["the", "a", "i"], ["the", "the", "a"], ["mother's"])
    ]
    mixed, repeated, single = (bag / np.linalg.norm(bag) for bag in bags)
    expected = [mixed, mixed, repeated, single, np.zeros(DIM), np.zeros(DIM)]
    np.testing.assert_allclose(encoder.encode(texts), expected, atol=1e-6)


def test_encoder_and_reward_split_texts_alike(tmp_path: Path):
    write_encoder(tmp_path, positions=64)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    words = tokenizer.get_vocab()
    assert set(words) - set(vocabulary()) == {tokenizer.unk_token}
    for text in (text for sentences in posts("test") for text in sentences):
        known = [words.get(word, tokenizer.unk_token_id) for word in words_of(text)]
        assert tokenizer(text)["input_ids"] == known


# -- Methods, curves, sweeps ----------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_a_valid_configuration(small_decoder: Path, method: str):
    for run_config in (
        tiny_lm.run_config(small_decoder, 1),
        smollm2.run_config(1, on_gpu=False),
        smollm2.run_config(1, on_gpu=True),
    ):
        keys = run_config | {"query_budget": 5000} | method_keys(method, 5000)
        config = SEAConfig.from_user_dict(keys)
        assert (config.gamma == 1.0) == ("+mix" not in method)


def test_mixing_begins_after_a_fifth_and_a_variant_changes_what_its_name_says() -> None:
    mixed = method_keys("bai_ts+mix", 5000)
    warm_up = [[0, 1.0], [1000, 1.0]]
    assert mixed == {
        "exploration_strategy": "bai_ts",
        "gamma": [*warm_up, [1001, 0.7]],
        "synthetic_pair": "selected_pair",
    }
    recipe = {"synthetic_pair": "best_vs_worst", "gamma": [*warm_up, [1001, 0.5]]}
    early = [[0, 1.0], [256, 1.0], [257, 0.5]]
    small_rounds = [[0, 1.0], [32, 1.0], [33, 0.5]]
    reinforce = {"loss": "reinforce", "beta": 0.02, "loss_config": {"min_labels": 256}}
    variants = [name for name in METHODS if name.startswith("bai_ts+mix, ")]
    assert [
        {key: value for key, value in method_keys(name, 5000).items() if mixed.get(key) != value}
        for name in variants
    ] == [
        recipe | {"gamma": early},
        reinforce | {"gamma": early, "erm_lambda": 0.01},
        recipe,
        {"synthetic_pair": "best_vs_worst"},
        {"gamma": [*warm_up, [1001, 0.5]]},
        {"num_candidates": 20},
        {"erm_minibatches": 20},
        {"beta": 0.05},
        recipe | {"beta": 0.3},
        recipe | {"policy_replay": 1},
        recipe | {"gamma": early, "prompts_per_round": 32, "evaluation_interval": 8},
        reinforce
        | {
            "gamma": early,
            "erm_lambda": 0.01,
            "prompts_per_round": 32,
            "evaluation_interval": 8,
        },
        recipe | {"gamma": early, "loss": "rpo"},
        *(
            {
                "loss": "reinforce",
                "beta": 0.02,
                "loss_config": {"min_labels": 1000},
                "gamma": [*warm_up, [1001, gamma]],
            }
            for gamma in (0.5, 0.3)
        ),
        reinforce
        | {
            "gamma": early,
            "erm_lambda": 0.01,
            "loss_config": {"min_labels": 256, "extremes": 2},
        },
        reinforce | {"gamma": early},
        recipe | {"gamma": early, "erm_lambda": 0.01},
        recipe | {"gamma": [[0, 1.0], [128, 1.0], [129, 0.5]]},
        reinforce
        | {
            "loss_config": {"min_labels": 128},
            "gamma": [[0, 1.0], [128, 1.0], [129, 0.3]],
            "erm_lambda": 0.01,
        },
        recipe | {"gamma": 0.5, "audit_threshold": 0.5},
        reinforce
        | {
            "loss_config": {"min_labels": 0},
            "gamma": 0.5,
            "erm_lambda": 0.01,
            "audit_threshold": 0.5,
        },
        recipe | {"gamma": small_rounds},
        reinforce
        | {
            "gamma": small_rounds,
            "erm_lambda": 0.01,
            "loss_config": {"min_labels": 32},
        },
        recipe | {"policy_replay": 1, "gamma": small_rounds},
        recipe | {"policy_replay": 1, "gamma": early},
        recipe | {"synthetic_labels": "soft"},
        recipe | {"synthetic_agreement": 0.9},
        recipe | {"audit_threshold": 0.6},
        recipe | {"audit_threshold": 0.6, "audit_share": 0.05, "audit_window": 64},
        recipe | {"synthetic_labels": "soft", "synthetic_agreement": 0.9},
        recipe | {"synthetic_labels": "soft", "audit_threshold": 0.6},
        recipe | {"synthetic_labels": "soft", "policy_replay": 1},
        recipe | {"synthetic_labels": "soft", "synthetic_cut_wins": False},
        recipe | {"kl_target": 8.0},
        recipe | {"synthetic_pair": "bounds"},
        recipe | {"synthetic_pair": "bounds", "synthetic_labels": "soft"},
    ]


def test_the_control_makes_as_many_updates_per_label() -> None:
    """With 128 prompts per round: 128 gamma labels for each of 1 + replay updates."""
    assert control_of(f"bai_ts+mix, {RECIPE}", 128) == "passive, 64 a round"
    assert control_of(f"bai_ts+mix, {RECIPE}", 16) == "passive, 8 a round"
    assert control_of("bai_ts+mix", 128) == "passive, 90 a round"  # 89.6
    assert control_of("passive, replay 1", 128) == "passive, 64 a round"
    assert control_of("bai_ts", 128) == "passive"
    assert control_of("passive, 64 a round", 128) is None
    assert control_of(f"bai_ts+mix, {RECIPE}, replay 1", 128) == "passive, 32 a round"
    # 38.4 / 2 labels for an update: no such control is run.
    assert control_of("bai_ts+mix, gamma 0.3, reinforce, from 128, weak pull", 64) is None
    for method in METHODS:
        assert control_of(method, 128) in {None, *METHODS} - {method}


def test_so_does_the_control_that_replays() -> None:
    recipe = f"bai_ts+mix, {RECIPE}"
    assert replayed_control_of(recipe, 128) == "passive, replay 1"
    assert replayed_control_of(f"bai_ts+mix, gamma 0.5, {EARLY}", 128) == "passive, replay 1"
    assert replayed_control_of(f"{recipe}, replay 1", 128) == "passive, replay 3"
    assert replayed_control_of("passive, 64 a round", 128) == "passive, replay 1"
    for method in ("passive", "passive, replay 1", "bai_ts"):  # none, itself, none
        assert replayed_control_of(method, 128) is None
    for method in METHODS:
        assert replayed_control_of(method, 128) in {None, *METHODS} - {method}


def test_what_is_called_the_recipe_mixes_as_the_recipe_does() -> None:
    (experiment,) = read_yaml(recipes()["sea_tldr"]).values()
    recipe = SEAConfig.from_user_dict(experiment["config"], experiment["env"])
    keys = method_keys(f"bai_ts+mix, {RECIPE}", 320)
    # The same schedule, but for how long the warm-up is.
    assert [gamma for _, gamma in recipe.gamma] == [gamma for _, gamma in keys["gamma"]]
    assert recipe.gamma[2][0] == recipe.gamma[1][0] + 1
    assert recipe.synthetic_pair == keys["synthetic_pair"]
    assert recipe.exploration_strategy == keys["exploration_strategy"]


def result(queries: int, win_rate: float | None, regret: float, accuracy: float) -> dict[str, Any]:
    evaluated = {
        "win_rate_vs_initial_soft": win_rate,
        "win_rate_vs_initial": win_rate,
        "mean_score": 1.0,
        "initial_mean_score": 0.5,
        "kl": 2.0,
        "response_length": 9.0,
        "finished_share": 0.25,
        "initial_finished_share": 0.5,
    }
    return {
        "num_oracle_queries": queries,
        "time_total_s": float(queries),
        "policy_steps": queries // 50,
        "policy": {"sampler_gap": 1e-7},
        "duels": {"cumulative_pool_regret": regret},
        "reward_model": {"accuracy_on_new_labels": accuracy},
        "evaluation": evaluated if win_rate is not None else {},
    }


RESULTS = (
    result(100, None, 10.0, 0.5),
    result(200, 0.6, 20.0, 0.7),
    result(400, None, 30.0, 0.8),
    result(500, 0.9, 40.0, 1.0),
)


def test_a_curve_by_hand():
    recorder = CurveRecorder("win_rate_vs_initial_soft")
    for row in RESULTS:
        recorder.add(row)
    curve = recorder.curve(500)
    assert len(curve) == POINTS + 1
    start, middle, end = curve[0], curve[POINTS // 2], curve[-1]
    assert [row["queries"] for row in (start, middle, end)] == [0, 250, 500]
    assert (start["win_rate"], start["mean_score"], start["regret"]) == (0.5, 0.5, 0.0)
    assert (start["steps"], end["steps"]) == (0.0, 10.0)
    assert (start["finished"], end["finished"]) == (0.5, 0.25)
    assert math.isnan(end["perplexity"])
    assert middle["win_rate"] == pytest.approx(0.65)  # a sixth of the way from 0.6 to 0.9
    assert end["win_rate"] == pytest.approx(0.9)
    other = CurveRecorder("mean_score")
    for row in RESULTS:
        other.add(row)
    assert [row["win_rate"] for row in other.curve(500)[1:]] == [
        row["mean_score"] for row in curve[1:]
    ]
    # Averaged over the rounds since the evaluation before: 0.6, then 0.9.
    assert math.isnan(start["accuracy"])
    assert middle["accuracy"] == pytest.approx(0.65)
    assert end["accuracy"] == pytest.approx(0.9)
    assert math.isnan(end["label_accuracy"])
    assert set(end) == {"queries", *COLUMNS}


def test_a_curve_is_written_once_when_the_budget_is_used(tmp_path: Path):
    file = tmp_path / "runs" / "500.csv"
    runs = {f"passive-{s}": Run("passive", s, {"query_budget": 500}) for s in (0, 1)}
    writer = CurveWriter(file, runs, "win_rate_vs_initial_soft")
    trials: Any = list(runs)  # a trial's text is its name
    for row in RESULTS[:-1]:
        for trial in trials:
            writer.on_trial_result(0, [], trial, row)
    assert not file.exists()
    for _ in range(2):  # Tune may give the last result once more
        writer.on_trial_result(0, [], trials[1], RESULTS[-1])
    assert read_runs(file)["passive"].seeds.tolist() == [1]
    assert writer.written == ["passive-1"]


def test_a_sweep_goes_on_where_it_was_stopped_and_is_drawn(tmp_path: Path):
    file = tmp_path / "runs" / "500.csv"
    methods = ["passive", "bai_ts+mix"]
    everything = [("passive", 0), ("bai_ts+mix", 0), ("passive", 1), ("bai_ts+mix", 1)]
    assert missing(methods, range(2), file) == everything
    recorder = CurveRecorder("win_rate_vs_initial_soft")
    for row in RESULTS:
        recorder.add(row)
    append_run(file, "bai_ts+mix", 1, recorder.curve(500))
    append_run(file, "passive", 0, recorder.curve(500))
    assert missing(methods, range(2), file) == [("bai_ts+mix", 0), ("passive", 1)]
    assert missing(methods, range(1, 3), file) == [
        ("passive", 1),
        *((m, 2) for m in ("passive", "bai_ts+mix")),
    ]
    append_run(file, "bai_ts+mix", 0, recorder.curve(500))
    append_run(file, "passive", 1, recorder.curve(500))
    assert missing(methods, range(2), file) == []

    runs = in_order(read_runs(file))
    assert list(runs) == ["passive", "bai_ts+mix"]
    write_report(tmp_path, tiny_lm.TIER, runs)
    tables = (tmp_path / "tables.md").read_text()
    assert "| SEA (BAI-TS + mixing) | 2 | 480 [480, 480] | 1.00 [1.00, 1.00] | - |" in tables
    # The win rate, the hard one, policy steps, KL, the win rate at 10 nats, to which none came.
    assert "| 0.900 [0.900, 0.900] | 0.900 | 10 [10, 10] | 2.0 [2.0, 2.0] | - |" in tables
    # Of the way from the start, at 0 labels, to the first evaluation, after 200, at 2 nats.
    np.testing.assert_allclose(win_rates_at_kl(runs["passive"], 0.5), [0.525, 0.525])
    assert "| SEA (BAI-TS + mixing) | 1.00 | 1.00, 1.00 | - | - |" in tables


def test_rates_are_compared_by_the_mean_of_the_curve(tmp_path: Path):
    file = tmp_path / "runs" / "choosing_500.csv"
    recorder = CurveRecorder("win_rate_vs_initial_soft")
    for row in RESULTS:
        recorder.add(row)
    rows = recorder.curve(500)
    for seed in (100, 101):
        append_run(file, name_of("passive", 4e-4, beta=0.3), seed, rows)
    mean = np.mean([row["win_rate"] for row in rows])
    assert (
        f"| passive, beta 0.3, lr 0.0004 | 100, 101 | {mean:.3f} | {mean:.3f}, {mean:.3f} | 0.900 "
        "| 2.0 | 9.0 | nan |"
    ) in rates_table(read_runs(file))


def test_a_choice_of_rates_has_rates_of_methods(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    for tier in (tiny_lm.TIER, smollm2.TIER):
        assert {method for rates in tier.rates.values() for method in rates} <= set(METHODS)
    monkeypatch.setattr("sys.argv", ["tiny_lm", "--rates", "best", "--methods", "offline"])
    with pytest.raises(SystemExit):
        main(tiny_lm.TIER)
    assert "--rates best: 'offline': not among {'passive': 0.0008" in capsys.readouterr().err


def test_a_run_that_fails_is_named_and_does_not_stop_the_others(
    small_decoder: Path, tmp_path: Path
):
    short = {
        "query_budget": 24,
        "prompts_per_round": 12,
        "sampler": "transformers",
        "sampler_config": {},
        "max_new_tokens": 4,
        "ensemble_size": 2,
        "evaluation_num_prompts": 6,
        "evaluation_interval": 1,
    }
    good = tiny_lm.run_config(small_decoder, 1) | short
    oracle = {
        "oracle": "tests.helpers.failing_oracle:FailingOracle",
        "oracle_config": {"answers": 5},
    }
    bad = good | {"env_config": good["env_config"] | oracle, "oracle_retries": 0}
    bad["measure_candidate_scores"] = False  # it has no scores
    file = tmp_path / "runs" / "24.csv"
    (failed,) = run_all(
        tiny_lm.TIER,
        [Run("bad", 0, bad), Run("passive", 1, good)],
        file,
        storage=tmp_path / "results",
    )
    name, error_file = failed.split(": ")
    assert name == "bad-0"
    assert "the labeller has gone home" in Path(error_file).read_text()
    runs = read_runs(file)
    assert list(runs) == ["passive"]
    assert runs["passive"].queries[-1] == 24
    assert np.isfinite(runs["passive"].columns["win_rate"]).all()
