"""One worker's policy update: plain torch, with or without torch.distributed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional

from rllib_sea.duels.records import PreferencePair
from rllib_sea.policy.audit import Probe, PublishedWeights, rehearsed
from rllib_sea.policy.model_folder import load_policy, replace_weights, save_policy, weights_of
from rllib_sea.policy.precision import AUTO, auto_dtype, halve, name_dtype
from rllib_sea.policy_update.anchor import Anchor
from rllib_sea.policy_update.batching import (
    ResponseBatch,
    collate,
    minibatches,
    offsets,
    sum_by_response,
)
from rllib_sea.policy_update.config import PolicyTrainConfig
from rllib_sea.policy_update.feed import WhichWeights
from rllib_sea.policy_update.logprobs import (
    ResponseLogits,
    choose_layout,
    response_log_probs,
)
from rllib_sea.policy_update.objectives.optimism import check_pairs
from rllib_sea.policy_update.schedule import controlled_share, learning_rate
from rllib_sea.policy_update.scores import (
    CandidateAdvantages,
    PromptResponses,
    ResponseScores,
    pair_responses,
    token_scores,
)
from rllib_sea.policy_update.sharding import SHARDING, rank, world_size
from rllib_sea.policy_update.terms import (
    OF_DECIDED_PAIRS,
    candidate_terms,
    pair_log_probs,
    pair_terms,
)

STATE_FILE = "training_state.json"
# Positions whose next-token distributions are scored at once: those of a whole minibatch,
# in float32, would take more memory than an update.
SCORE_CHUNK = 64


class NonFiniteUpdateError(ArithmeticError):
    """The loss or its gradient is not finite; the weights are as before the update."""


class PolicyLearner:
    """A policy, its frozen reference and its optimizer.

    The policy's weights are float32, computed with under bf16 autocast if ``train_precision`` says
    so. The reference computes exactly as the policy does: the margin h is 0 before the first step.

    Args:
        config: The run's configuration.

    Attributes:
        layout: How sequences are laid out for it, see :func:`choose_layout`.
        version: Updates so far.
    """

    def __init__(self, config: PolicyTrainConfig) -> None:
        torch.set_num_threads(config.threads_per_worker)
        self.config = config
        self.version = 0
        self._device = torch.device(
            f"cuda:{torch.cuda.current_device()}" if torch.cuda.is_available() else "cpu"
        )
        bf16 = config.train_precision == "bf16" or (
            config.train_precision == AUTO and auto_dtype() == torch.bfloat16
        )
        self._compute_dtype = torch.bfloat16 if bf16 else torch.float32
        self._policy = load_policy(config.model_path, torch.float32).to(self._device)
        self.layout = choose_layout(self._policy)
        reference = load_policy(config.model_path, torch.float32)
        if bf16:
            halve(reference)
        self._reference = ResponseLogits(reference.to(self._device), bf16=bf16)
        self._reference.requires_grad_(False)
        self._rate_share = 1.0  # of the scheduled rate, by the controller
        self._anchor: Anchor | None = None
        if config.anchor_decay < 1.0:
            self._anchor = Anchor(self._policy, config.model_path, config.anchor_decay, bf16=bf16)
        # Of an update and of scoring, which takes less memory for as many.
        self._responses_at_once = 2 * config.policy_minibatch_size
        self._strategy = SHARDING[config.train_strategy](
            ResponseLogits(self._policy, bf16=bf16), config
        )

    def update(self, pairs: Sequence[PreferencePair]) -> dict[str, float]:
        """One optimizer step on a round's pairs (SEA, Algorithm 2, line 8).

        The gradient is that of the mean loss over all pairs, however they are cut into
        minibatches and dealt out to workers. The sum of the losses is divided by the number of
        pairs, whatever their weights.

        Args:
            pairs: The whole round's pairs, the same list on every worker.

        Returns:
            Means over the pairs (see docs/metrics.md, group ``policy``), ``grad_norm`` and
            ``lr``. ``margin`` and ``accuracy`` are those of the pairs that are no ties, and
            missing if all are.

        Raises:
            NonFiniteUpdateError: Nothing was applied.
            ValueError: For a pair without what the optimism term needs, or with an empty
                prompt or response.
        """
        check_pairs(self.config.optimism, pairs)
        names = ["loss", "margin", "accuracy", "chosen_logp", "rejected_logp"]
        if self.config.optimism is not None:
            names.append("optimism")
        if self.config.kl_target is not None:
            names.append("kl")
        num_decided = sum(not pair.is_tie for pair in pairs)
        counts = dict.fromkeys(names, len(pairs)) | dict.fromkeys(OF_DECIDED_PAIRS, num_decided)
        return self._step(
            [pair_responses(pair) for pair in pairs],
            lambda shown, batch: self._pair_terms([pairs[i] for i in shown], batch),
            counts,
        )

    def reinforce(self, prompts: Sequence[CandidateAdvantages]) -> dict[str, float]:
        """One optimizer step on a round's candidates.

        The gradient is that of the mean loss over all candidates
        (:func:`rllib_sea.policy_update.objectives.reinforce.reinforce`).

        Args:
            prompts: The whole round's, the same list on every worker.

        Returns:
            Means over the candidates: ``loss``, ``kl`` from the anchor before the step,
            and ``advantage``, without its sign; ``grad_norm`` and ``lr``.

        Raises:
            NonFiniteUpdateError: Nothing was applied.
        """
        pieces = [piece for prompt in prompts for piece in prompt.pieces(self._responses_at_once)]
        num_candidates = sum(len(piece.advantages) for piece in pieces)
        return self._step(
            [piece.candidates for piece in pieces],
            lambda shown, batch: self._candidate_terms([pieces[i] for i in shown], batch),
            dict.fromkeys(("loss", "kl", "advantage"), num_candidates),
        )

    def _step(
        self,
        prompts: Sequence[PromptResponses],
        terms_of: Callable[[Sequence[int], ResponseBatch], dict[str, torch.Tensor]],
        counts: Mapping[str, int],
    ) -> dict[str, float]:
        """One optimizer step.

        Args:
            prompts: What is learned from.
            terms_of: Of some of them, and their batch: tensors by name, of which ``loss`` is
                minimised.
            counts: By name, over how many values it is averaged.

        Returns:
            The means, ``grad_norm`` and ``lr``.
        """
        names = list(counts)
        parts = minibatches(prompts, self._responses_at_once, rank(), world_size())
        sums = torch.zeros(len(names), dtype=torch.float64, device=self._device)
        for number, part in enumerate(parts):
            # Workers communicate in the backward pass, so one whose share has ended goes on
            # with a pair of weight 0.
            shown = part or [0]
            batch = collate([prompts[i] for i in shown], self.layout).to(self._device)
            with self._strategy.accumulating(last=number == len(parts) - 1):
                terms = terms_of(shown, batch)
                weight = world_size() / counts["loss"] if part else 0.0
                self._strategy.backward(_poisoned_if_not_finite(terms["loss"].sum()) * weight)
            if part:
                sums += torch.stack([terms[name].detach().double().sum() for name in names])
        if dist.is_initialized():
            dist.all_reduce(sums)
        means = {
            name: total / counts[name]
            for name, total in zip(names, sums.tolist(), strict=True)
            if counts[name]
        }
        lr = self._learning_rate(means)
        grad_norm = self._strategy.step(lr)
        if not all(map(torch.isfinite, torch.tensor([means["loss"], grad_norm]))):
            raise NonFiniteUpdateError(
                f"the policy's loss is {means['loss']}, its gradient norm {grad_norm}"
            )
        self.version += 1
        if self._anchor is not None:
            self._anchor.follow()
        return means | {"grad_norm": grad_norm, "lr": lr}

    def _learning_rate(self, means: Mapping[str, float]) -> float:
        """The step's learning rate, by what was measured before it."""
        config = self.config
        if config.kl_target is not None:
            assert config.total_steps is not None
            target = config.kl_target * min(1.0, (self.version + 1) / config.total_steps)
            self._rate_share = controlled_share(self._rate_share, means["kl"], target)
        return self._rate_share * learning_rate(
            self.version,
            config.policy_lr,
            config.lr_schedule,
            config.total_steps,
            config.warmup_ratio,
        )

    def weights(self, which: WhichWeights = "trained") -> PublishedWeights:
        """Weights for the engines, on the CPU; every worker must call it.

        They are in the format that the policy computes in, so that what samples with them is the
        policy that is trained. Of small updates bf16 keeps next to nothing: a model's weights
        lie on its grid, whose steps are 1/256 to 1/128 of a weight, and go back to where they were.

        Args:
            which: ``"trained"``: the policy's; ``"initial"``: the reference's; ``"rehearsal"``:
                others, of which every tensor differs from the initial ones, for an engine that is
                tried before it is needed (by :func:`rllib_sea.policy.audit.rehearsed`).

        Returns:
            Complete on the first worker, with what they say of the probe; in float32 on a CPU not
            copies, to be passed on before the next update.
        """
        if which == "trained":
            return self._published(self._strategy.weights(), self._strategy.module)
        model = self._reference.model
        initial = weights_of(model)
        if which == "initial":
            return self._published(initial, self._reference)
        # One by one, and copies on the CPU: a GPU may have no room for a second model.
        changed = {
            name: rehearsed(tensor).to("cpu", self._compute_dtype)
            for name, tensor in initial.items()
        }
        kept = {name: tensor.to("cpu", copy=True) for name, tensor in initial.items()}
        replace_weights(model, changed)
        try:
            return self._published(changed, self._reference)
        finally:
            replace_weights(model, kept)

    def _published(
        self, tensors: Mapping[str, torch.Tensor], module: nn.Module
    ) -> PublishedWeights:
        """Weights with what a module that has them says of the probe."""
        return PublishedWeights(self._in_compute_dtype(tensors), self._probe(module))

    def _in_compute_dtype(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name: tensor.to("cpu", self._compute_dtype) for name, tensor in tensors.items()}

    @torch.no_grad()
    def _probe(self, module: nn.Module) -> Probe:
        probes = [PromptResponses(ids[:1], (ids[1:],)) for ids in self.config.probes]
        batch = collate(probes, self.layout).to(self._device)
        logps = -functional.cross_entropy(module(batch).float(), batch.target, reduction="none")
        rows = logps.cpu().split(batch.lengths.tolist())
        return Probe(
            self.config.probes, tuple(tuple(row.tolist()) for row in rows), self._compute_dtype
        )

    def save(self, folder: Path) -> None:
        """Writes everything that :meth:`load` needs; every worker must call it.

        The folder appears whole or not at all. It has the weights in float32, and is one that
        ``transformers.AutoModelForCausalLM.from_pretrained`` loads in the format that the policy
        computes in: as what was sampled from and evaluated.

        Args:
            folder: On storage that all workers share; what stands there is replaced.
        """
        unfinished = folder.with_name(folder.name + ".unfinished")
        if rank() == 0:
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True)
        _barrier()
        weights = self._strategy.weights()
        if rank() == 0:
            save_policy(self._policy, weights, unfinished, Path(self.config.model_path))
            name_dtype(unfinished, self._compute_dtype)
            if self._anchor is not None:
                self._anchor.save(unfinished)
            state = {"version": self.version, "rate_share": self._rate_share}
            (unfinished / STATE_FILE).write_text(json.dumps(state))
        self._strategy.save(unfinished)
        _barrier()
        if rank() == 0:
            _replace_folder(unfinished, folder)
        _barrier()

    def load(self, folder: Path) -> None:
        """Goes on from a folder that :meth:`save` wrote; every worker must call it."""
        self._strategy.load(folder)
        if self._anchor is not None:
            self._anchor.load(folder)
        state = json.loads((folder / STATE_FILE).read_text())
        self.version, self._rate_share = state["version"], state["rate_share"]

    @torch.no_grad()
    def score(self, prompts: Sequence[PromptResponses]) -> ResponseScores:
        """What policy and reference think of responses; every worker must call it.

        The work is dealt out to the workers; each gets the whole result.

        Args:
            prompts: Prompts with their responses, the same list on every worker.

        Returns:
            The scores of all responses, in the order of ``prompts``.
        """
        pieces = [piece for prompt in prompts for piece in prompt.pieces(self._responses_at_once)]
        firsts = offsets(pieces)
        num_responses = sum(len(piece.responses) for piece in pieces)
        scores = torch.zeros(num_responses, 3, dtype=torch.float64, device=self._device)
        parts: list[list[int]] = []
        if pieces:
            parts = minibatches(pieces, self._responses_at_once, rank(), world_size())
        for part in parts:
            # Workers may communicate in the forward pass, so one whose share has ended goes
            # on with responses whose scores are dropped.
            batch = collate([pieces[i] for i in part or [0]], self.layout).to(self._device)
            logits = (self._strategy.module(batch), self._reference(batch), batch.target)
            chunks = zip(*(tensor.split(SCORE_CHUNK) for tensor in logits), strict=True)
            tokens = torch.cat([token_scores(*chunk) for chunk in chunks])
            if part:
                places = [firsts[i] + n for i in part for n in range(len(pieces[i].responses))]
                scores[places] = sum_by_response(tokens.double(), batch)
        if dist.is_initialized():
            dist.all_reduce(scores)  # each worker has zeros where the others have scores
        return ResponseScores(*scores.T.numpy(force=True))

    def _pair_terms(
        self, pairs: Sequence[PreferencePair], batch: ResponseBatch
    ) -> dict[str, torch.Tensor]:
        """(B,) tensors by name, of some pairs."""
        if self.config.kl_target is None:
            with torch.no_grad():
                reference = response_log_probs(self._reference(batch), batch)
            policy = response_log_probs(self._strategy.module(batch), batch)
            return pair_terms(pairs, pair_log_probs(policy, reference, batch), self.config)
        with torch.no_grad():
            logits = self._reference(batch)
        scores = token_scores(self._strategy.module(batch), logits, batch.target)
        policy, reference, kl = sum_by_response(scores, batch).T
        terms = pair_terms(pairs, pair_log_probs(policy, reference, batch), self.config)
        return terms | {"kl": (kl[0::2] + kl[1::2]) / 2}

    def _candidate_terms(
        self, prompts: Sequence[CandidateAdvantages], batch: ResponseBatch
    ) -> dict[str, torch.Tensor]:
        """(S,) tensors by name, of the candidates of some prompts."""
        with torch.no_grad():
            anchor = (self._anchor.logits if self._anchor else self._reference)(batch)
        scores = token_scores(self._strategy.module(batch), anchor, batch.target)
        log_probs, _, kl = sum_by_response(scores, batch).T
        return candidate_terms(prompts, log_probs, kl, self.config.beta)


def _poisoned_if_not_finite(loss: torch.Tensor) -> torch.Tensor:
    """A loss whose gradient is not finite if the loss is not: SLiC's would be, and be applied."""
    return loss * torch.where(loss.detach().isfinite(), 1.0, torch.nan)


def _replace_folder(source: Path, target: Path) -> None:
    """Puts a folder in another's place; no moment in which the place holds half a folder."""
    replaced = target.with_name(target.name + ".replaced")
    shutil.rmtree(replaced, ignore_errors=True)
    if target.exists():
        os.replace(target, replaced)
    os.replace(source, target)
    shutil.rmtree(replaced, ignore_errors=True)


def _barrier() -> None:
    if dist.is_initialized():
        dist.barrier()
