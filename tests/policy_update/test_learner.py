"""The policy's update in one process, beside a hand-made loop in plain torch."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from rllib_sea.duels.records import PreferencePair
from rllib_sea.policy.model_folder import replace_weights
from rllib_sea.policy_update import learner as learner_module
from rllib_sea.policy_update.config import PolicyTrainConfig
from rllib_sea.policy_update.learner import NonFiniteUpdateError, PolicyLearner
from rllib_sea.policy_update.objectives.losses import LOSSES
from rllib_sea.policy_update.scores import CandidateAdvantages, pair_responses
from tests.helpers.preference_pairs import random_pairs, random_prompts
from tests.helpers.weights import assert_same_updates
from text_duel.errors import ConfigError

PAIRS = random_pairs(16, seed=1)
LN_2 = 0.6931471824645996  # in float32


@pytest.fixture
def config(tiny_policy: Path) -> PolicyTrainConfig:
    return PolicyTrainConfig(
        policy_lr=1e-3,
        lr_schedule="constant",
        train_precision="fp32",
        model_path=str(tiny_policy),
        probes=((1, 2, 3, 4), (5, 6, 7, 8)),
    )


def weights_of(learner: PolicyLearner) -> dict[str, torch.Tensor]:
    """Copies, on the CPU."""
    return {name: tensor.clone().cpu() for name, tensor in learner._strategy.weights().items()}


def assert_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name], rtol=0, atol=0, equal_nan=True, msg=name)


def sequence_log_prob(
    model: PreTrainedModel, prompt: Sequence[int], response: Sequence[int]
) -> torch.Tensor:
    """One response's log-probability, token by token."""
    ids = torch.tensor([[*prompt, *response]])
    logps = model(input_ids=ids).logits[0].log_softmax(-1)
    place = len(prompt)
    return torch.stack([logps[place + i - 1, token] for i, token in enumerate(response)]).sum()


def plain_loop(
    folder: Path, rounds: Sequence[Sequence[PreferencePair]], config: PolicyTrainConfig
) -> tuple[dict[str, torch.Tensor], list[float]]:
    """DPO on the full batch with torch's AdamW: the algorithm as one would write it down.

    Returns:
        The weights, and each round's mean optimism term.
    """
    policy, reference = (
        AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval() for _ in range(2)
    )
    optimizer = torch.optim.AdamW(
        policy.parameters(), lr=config.policy_lr, betas=(0.9, 0.95), weight_decay=0.0
    )
    bonuses = []
    for pairs in rounds:
        losses, terms = [], []
        for pair in pairs:
            prompt = pair.prompt_token_ids
            h = torch.zeros(())
            term = torch.zeros(())
            for sign, name, response in (
                (1, "chosen", pair.chosen_token_ids),
                (-1, "rejected", pair.rejected_token_ids),
            ):
                with torch.no_grad():
                    before = sequence_log_prob(reference, prompt, response)
                now = sequence_log_prob(policy, prompt, response)
                h = h + sign * (now - before)
                if name == pair.from_reference and config.optimism == "xpo":
                    term = config.optimism_alpha * now
                if name == pair.from_reference and config.optimism == "selm":
                    term = config.optimism_alpha * config.beta * (now - before)
            losses.append(-functional.logsigmoid(config.beta * h) + term)
            terms.append(float(term.detach()))
        bonuses.append(sum(terms) / len(terms))
        optimizer.zero_grad()
        torch.stack(losses).mean().backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
    return {name: parameter.detach() for name, parameter in policy.named_parameters()}, bonuses


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("loss", LOSSES)
def test_the_margin_is_zero_before_the_first_step(
    config: PolicyTrainConfig, precision: str, loss: str
) -> None:
    learner = PolicyLearner(dataclasses.replace(config, train_precision=precision, loss=loss))
    metrics = learner.update(PAIRS)
    assert metrics["margin"] == 0.0
    assert metrics["accuracy"] == 0.0
    at_zero = {"dpo": LN_2, "cdpo": LN_2, "rdpo": LN_2, "ipo": 25.0, "ipo_mean": 25.0, "slic": 1.0}
    if loss in at_zero:  # SimPO has no reference, RPO adds a likelihood
        assert metrics["loss"] == pytest.approx(at_zero[loss], rel=1e-6)
    second = learner.update(PAIRS)
    assert second["margin"] > 0
    assert second["loss"] < metrics["loss"]
    assert "optimism" not in second


@pytest.mark.parametrize(
    ("precision", "tolerance"),
    # In bf16 the matrix products round to 8 bits, at other places for another batch shape.
    [("fp32", 1e-5), ("bf16", 1e-2)],
)
def test_the_minibatch_size_changes_nothing(
    config: PolicyTrainConfig, precision: str, tolerance: float
) -> None:
    results = []
    for size in (16, 4, 1):
        learner = PolicyLearner(
            dataclasses.replace(config, train_precision=precision, policy_minibatch_size=size)
        )
        learner.update(PAIRS)
        results.append(learner.update(PAIRS[::-1]))
    for metrics in results[1:]:
        for key in ("loss", "grad_norm"):
            assert metrics[key] == pytest.approx(results[0][key], rel=tolerance)


@pytest.mark.parametrize("decay", [1.0, 0.75])
def test_two_steps_of_reinforce_equal_a_plain_loop(
    config: PolicyTrainConfig, tiny_policy: Path, decay: float
) -> None:
    """Whatever the size of a minibatch: prompts with more candidates are cut."""
    rng = torch.Generator().manual_seed(0)
    prompts = [
        CandidateAdvantages(
            prompt, tuple((torch.rand(len(prompt.responses), generator=rng) - 0.5).tolist())
        )
        for prompt in random_prompts(5, seed=4)
    ]
    policy, reference = (
        AutoModelForCausalLM.from_pretrained(tiny_policy, dtype=torch.float32).eval()
        for _ in range(2)
    )
    optimizer = torch.optim.AdamW(
        policy.parameters(), lr=config.policy_lr, betas=(0.9, 0.95), weight_decay=0.0
    )
    options = {"loss": "reinforce", "loss_config": {"anchor_decay": decay}}
    learners = [
        PolicyLearner(dataclasses.replace(config, beta=0.3, policy_minibatch_size=size, **options))
        for size in (1, 8)
    ]
    for step in range(3):
        losses, divergences = [], []
        for prompt in prompts:
            ids = prompt.candidates.prompt_token_ids
            for response, advantage in zip(
                prompt.candidates.responses, prompt.advantages, strict=True
            ):
                tokens = torch.tensor([[*ids, *response]])
                places = slice(len(ids) - 1, -1)
                now = policy(input_ids=tokens).logits[0, places].log_softmax(-1)
                with torch.no_grad():
                    before = reference(input_ids=tokens).logits[0, places].log_softmax(-1)
                kl = (now.exp() * (now - before)).sum()
                log_prob = sequence_log_prob(policy, ids, response)
                losses.append(-advantage * log_prob + 0.3 * kl)
                divergences.append(float(kl.detach()))
        mean = torch.stack(losses).mean()
        optimizer.zero_grad()
        mean.backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            for mean_weight, weight in zip(
                reference.parameters(), policy.parameters(), strict=True
            ):
                mean_weight.copy_(decay * mean_weight + (1 - decay) * weight)
        for learner in learners:
            metrics = learner.reinforce(prompts)
            assert metrics["loss"] == pytest.approx(float(mean.detach()), rel=1e-5)
            expected_kl = sum(divergences) / len(divergences)
            assert metrics["kl"] == pytest.approx(expected_kl, rel=1e-3, abs=1e-5)
            assert (metrics["kl"] > 0.003) == (step > 0)
    expected = {name: parameter.detach() for name, parameter in policy.named_parameters()}
    for learner in learners:
        assert learner.version == 3
        assert_same_updates(weights_of(learner), expected)


def test_a_target_for_the_divergence_slows_the_policy_and_is_gone_on_with(
    config: PolicyTrainConfig, tmp_path: Path
) -> None:
    free = dataclasses.replace(config, total_steps=8)
    bound = dataclasses.replace(free, kl_target=0.02)
    learners = [PolicyLearner(bound), PolicyLearner(free)]
    made = [[learner.update(PAIRS) for _ in range(6)] for learner in learners]
    assert made[0][0]["kl"] == pytest.approx(0.0, abs=1e-6)
    assert made[0][0]["lr"] == config.policy_lr
    assert made[0][-1]["lr"] < 0.7 * config.policy_lr
    scores = learners[0].score([pair_responses(pair) for pair in PAIRS])
    assert "kl" not in made[1][-1]
    after = learners[0].update(PAIRS)
    assert after["kl"] == pytest.approx(scores.kl.mean(), rel=1e-4)
    far = learners[1].score([pair_responses(pair) for pair in PAIRS]).kl.mean()
    assert after["kl"] < far
    # Until the rate falls both do the same.
    assert made[0][1]["loss"] == pytest.approx(made[1][1]["loss"], rel=1e-5)
    learners[0].save(tmp_path / "policy")
    loaded = PolicyLearner(bound)
    loaded.load(tmp_path / "policy")
    assert loaded.update(PAIRS) == learners[0].update(PAIRS)


def test_a_moving_anchor_is_saved_and_gone_on_with(
    config: PolicyTrainConfig, tmp_path: Path
) -> None:
    """The anchor is nearer than the reference, and no step of a loaded learner differs."""
    prompts = [
        CandidateAdvantages(prompt, (0.3, *(-0.1 for _ in prompt.responses[1:])))
        for prompt in random_prompts(4, seed=5)
    ]
    still, moving, loaded = (
        PolicyLearner(
            dataclasses.replace(
                config, loss="reinforce", loss_config={"anchor_decay": decay}, beta=0.3
            )
        )
        for decay in (1.0, 0.5, 0.5)
    )
    kept = [[learner.reinforce(prompts)["kl"] for _ in range(4)] for learner in (still, moving)]
    assert 0 < kept[1][-1] < 0.7 * kept[0][-1]
    moving.save(tmp_path / "policy")
    loaded.load(tmp_path / "policy")
    assert loaded.reinforce(prompts) == moving.reinforce(prompts)
    assert_equal(weights_of(loaded), weights_of(moving))


# With these alphas both terms' gradients are of the size of DPO's.
@pytest.mark.parametrize(("optimism", "alpha"), [(None, 1.0), ("xpo", 0.03), ("selm", 0.3)])
def test_two_steps_equal_a_plain_loop(
    config: PolicyTrainConfig, tiny_policy: Path, optimism: str | None, alpha: float
) -> None:
    rounds = [random_pairs(6, seed=2), random_pairs(6, seed=3)]
    config = dataclasses.replace(
        config, policy_minibatch_size=4, optimism=optimism, optimism_alpha=alpha
    )
    learner = PolicyLearner(config)
    metrics = [learner.update(pairs) for pairs in rounds]
    expected, bonuses = plain_loop(tiny_policy, rounds, config)
    if optimism is not None:
        got = [update["optimism"] for update in metrics]
        assert got == pytest.approx(bonuses, rel=1e-4, abs=1e-6)
        assert bonuses[1] != 0.0
        # The loss that is reported is the whole one.
        assert metrics[0]["loss"] == pytest.approx(LN_2 + bonuses[0], rel=1e-5)
    assert_same_updates(weights_of(learner), expected)


def relabelled(preference: float, weight: float = 1.0) -> list[PreferencePair]:
    """The first eight pairs with this label, the others as they were."""
    some = [dataclasses.replace(p, preference=preference, weight=weight) for p in PAIRS[:8]]
    return some + PAIRS[8:]


def trained(config: PolicyTrainConfig) -> PolicyLearner:
    """After one step, so that margins differ from 0."""
    learner = PolicyLearner(config)
    learner.update(PAIRS)
    return learner


def test_the_loss_is_divided_by_the_number_of_pairs_whatever_they_weigh(
    config: PolicyTrainConfig,
) -> None:
    """L(w) is linear in the weight of the first eight pairs, and 8/16 of the others' at 0."""
    full, half, none = (
        trained(config).update(relabelled(1.0, weight)) for weight in (1.0, 0.5, 0.0)
    )
    assert half["loss"] == pytest.approx((full["loss"] + none["loss"]) / 2, rel=1e-6)
    assert none["loss"] == pytest.approx(trained(config).update(PAIRS[8:])["loss"] / 2, rel=1e-5)
    assert none["margin"] == full["margin"]


def test_a_tie_is_in_neither_margin_nor_accuracy(config: PolicyTrainConfig) -> None:
    config = dataclasses.replace(config, ties="soft")
    tied, others = trained(config).update(relabelled(0.5)), trained(config).update(PAIRS[8:])
    for key in ("margin", "accuracy"):
        assert tied[key] == pytest.approx(others[key], rel=1e-5)
    assert tied["loss"] != pytest.approx(others["loss"], rel=1e-3)
    only = trained(config).update([dataclasses.replace(p, preference=0.5) for p in PAIRS])
    assert not {"margin", "accuracy"} & only.keys()


def test_from_ties_alone_nothing_is_learned_unless_it_is_asked_for(
    config: PolicyTrainConfig,
) -> None:
    ties = [dataclasses.replace(pair, preference=0.5) for pair in PAIRS]
    metrics = trained(config).update(ties)
    assert metrics["loss"] == metrics["grad_norm"] == 0.0
    for options in (
        {"ties": "soft"},
        {"ties": "rao_kupper", "tie_margin": 1.0},
        {"ties": "davidson", "tie_margin": 1.0},
    ):
        # The first step, on labels, is a model's own.
        learner = trained(dataclasses.replace(config, policy_lr=3e-3, **options))
        before = learner.update(ties)
        assert before["grad_norm"] > 0
        assert learner.update(ties)["loss"] < before["loss"]


@pytest.mark.parametrize("loss", LOSSES)
def test_what_is_not_finite_is_not_applied(
    config: PolicyTrainConfig, tiny_policy: Path, tmp_path: Path, loss: str
) -> None:
    learner = PolicyLearner(dataclasses.replace(config, loss=loss))
    learner.update(PAIRS)
    learner.save(tmp_path / "policy")
    weights = load_file(tmp_path / "policy" / "model.safetensors")
    weights["model.norm.weight"][3] = torch.nan
    save_file(weights, tmp_path / "policy" / "model.safetensors", metadata={"format": "pt"})
    learner.load(tmp_path / "policy")
    before = weights_of(learner)
    with pytest.raises(NonFiniteUpdateError, match=r"loss is nan, its gradient norm nan"):
        learner.update(PAIRS)
    assert learner.version == 1
    assert_equal(weights_of(learner), before)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_published_weights_say_of_the_probe_what_their_model_says(
    config: PolicyTrainConfig, precision: str
) -> None:
    learner = PolicyLearner(dataclasses.replace(config, train_precision=precision, policy_lr=1e-2))
    learner.update(PAIRS)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    probes = {}
    for which in ("trained", "initial", "rehearsal"):
        published = learner.weights(which)
        model = AutoModelForCausalLM.from_pretrained(config.model_path, dtype=torch.float32)
        replace_weights(model, published.tensors)
        assert {tensor.dtype for tensor in published.tensors.values()} == {dtype}
        assert published.probe.dtype == dtype
        assert published.probe.token_ids == config.probes
        probes[which] = published.probe.logprobs
        for ids, row in zip(config.probes, published.probe.logprobs, strict=True):
            with torch.no_grad():
                logps = model.eval()(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
            expected = [float(logps[i, token]) for i, token in enumerate(ids[1:])]
            assert row == pytest.approx(expected, abs=1e-5 if precision == "fp32" else 0.05)
    assert len(set(probes.values())) == 3
    # A rehearsal leaves no trace in the reference: the next update has the same margin.
    again = learner.weights("initial")
    assert again.probe.logprobs == probes["initial"]
    other = PolicyLearner(dataclasses.replace(config, train_precision=precision, policy_lr=1e-2))
    other.update(PAIRS)
    assert other.update(PAIRS) == learner.update(PAIRS)


@pytest.mark.parametrize("loss", [name for name in LOSSES if name != "simpo"])
def test_a_reference_that_is_not_finite_is_noticed(config: PolicyTrainConfig, loss: str) -> None:
    """SLiC's gradient is finite there: it must not be applied either. SimPO has no reference."""
    learner = PolicyLearner(dataclasses.replace(config, loss=loss))
    with torch.no_grad():
        learner._reference.model.model.norm.weight[3] = torch.nan
    before = weights_of(learner)
    with pytest.raises(NonFiniteUpdateError):
        learner.update(PAIRS)
    assert_equal(weights_of(learner), before)


def test_an_option_of_the_loss_is_used(config: PolicyTrainConfig) -> None:
    """SimPO with a very large margin: -beta (d - ratio) = beta ratio - beta d."""
    losses = []
    for ratio in (1000.0, 2000.0):
        options = dataclasses.replace(config, loss="simpo", loss_config={"margin_ratio": ratio})
        losses.append(PolicyLearner(options).update(PAIRS)["loss"])
    assert losses[1] - losses[0] == pytest.approx(config.beta * 1000.0, rel=1e-5)


def test_a_pair_without_what_optimism_needs_is_refused(config: PolicyTrainConfig) -> None:
    learner = PolicyLearner(dataclasses.replace(config, optimism="xpo"))
    before = weights_of(learner)
    with pytest.raises(ValueError, match="prompt '0'"):
        learner.update([dataclasses.replace(PAIRS[0], from_reference=None), *PAIRS[1:]])
    assert_equal(weights_of(learner), before)


def test_a_saved_folder_is_a_model_that_transformers_loads(
    config: PolicyTrainConfig, tmp_path: Path
) -> None:
    learner = PolicyLearner(config)
    learner.update(PAIRS)
    learner.save(tmp_path / "deep" / "policy")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "deep" / "policy").eval()
    ids = torch.tensor([[5, 6, 7, 8]], device=learner._policy.device)
    with torch.no_grad():
        assert torch.equal(loaded.to(ids.device)(ids).logits, learner._policy(ids).logits)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "deep" / "policy")
    assert tokenizer.decode(tokenizer("to be").input_ids) == "to be"


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)]
)
def test_what_samples_and_what_is_loaded_is_what_was_trained(
    config: PolicyTrainConfig, tmp_path: Path, precision: str, dtype: torch.dtype
) -> None:
    # As small as real ones: bf16 would lose most of it.
    learner = PolicyLearner(dataclasses.replace(config, train_precision=precision, policy_lr=1e-6))
    initial = weights_of(learner)
    learner.update(PAIRS)
    published, trained = learner.weights().tensors, weights_of(learner)
    assert published.keys() == trained.keys()
    learner.save(tmp_path / "policy")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "policy").state_dict()
    for name, tensor in trained.items():
        assert torch.equal(published[name], tensor.to(dtype))
        assert loaded[name].dtype == dtype
        assert torch.equal(loaded[name], published[name])
    moved = [not torch.equal(published[n].float(), initial[n]) for n in published]
    assert all(moved) if precision == "fp32" else not all(moved)
    again = PolicyLearner(dataclasses.replace(config, train_precision=precision))
    again.load(tmp_path / "policy")
    for name, tensor in weights_of(again).items():
        assert torch.equal(tensor, trained[name])  # to the last bit of float32


def test_a_loaded_learner_goes_on_bit_by_bit(config: PolicyTrainConfig, tmp_path: Path) -> None:
    config = dataclasses.replace(
        config, lr_schedule="cosine", total_steps=4, train_precision="bf16"
    )
    never_stopped = PolicyLearner(config)
    never_stopped.update(PAIRS[:8])
    never_stopped.save(tmp_path / "policy")
    loaded = PolicyLearner(config)
    loaded.load(tmp_path / "policy")
    assert loaded.version == 1
    assert_equal(weights_of(loaded), weights_of(never_stopped))
    for pairs in (PAIRS[8:], PAIRS[4:12]):
        assert loaded.update(pairs) == never_stopped.update(pairs)
        assert_equal(weights_of(loaded), weights_of(never_stopped))


def test_a_folder_without_the_policys_weights_is_refused(
    config: PolicyTrainConfig, tmp_path: Path
) -> None:
    learner = PolicyLearner(config)
    learner.save(tmp_path / "policy")
    weights = load_file(tmp_path / "policy" / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, tmp_path / "policy" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=r"checkpoint: the safetensors of .* lack 'model\.norm"):
        learner.load(tmp_path / "policy")


def test_an_interrupted_save_leaves_the_old_folder(
    config: PolicyTrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = PolicyLearner(config)
    learner.save(tmp_path / "policy")
    before = weights_of(learner)
    learner.update(PAIRS)

    def interrupted(source: object, target: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(learner_module.os, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            learner.save(tmp_path / "policy")
    assert_equal(load_file(tmp_path / "policy" / "model.safetensors"), before)
    PolicyLearner(config).load(tmp_path / "policy")

    learner.save(tmp_path / "policy")  # over the old one and over the remains
    assert_equal(load_file(tmp_path / "policy" / "model.safetensors"), weights_of(learner))
    assert os.listdir(tmp_path) == ["policy"]
