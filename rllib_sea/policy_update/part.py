"""The policy's part of the Algorithm: preference pairs in, versions of the policy out."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import ray

from rllib_sea.duels.records import PreferencePair
from rllib_sea.duels.rounds import Proposal
from rllib_sea.policy_update.learner import NonFiniteUpdateError
from rllib_sea.policy_update.objectives.reinforce import ReinforceOptions, advantages, extreme
from rllib_sea.policy_update.publishing import PublishedPolicy, Publisher
from rllib_sea.policy_update.replay import draw_replayed
from rllib_sea.policy_update.scores import CandidateAdvantages, PromptResponses
from rllib_sea.policy_update.trainer import FixedPolicy, PolicyTrainer
from rllib_sea.randomness import Stream, generator

Example = TypeVar("Example", PreferencePair, CandidateAdvantages)


class PolicyUpdate:
    """Updates the policy, and says which version samples.

    Args:
        trainer: The Ray Train run, or what stands in for it.
        sync_interval: Rounds after which the trained weights sample; None: the initial ones do.
        needs_initial: Whether candidates are sampled from the initial policy, too.
        replay: Further steps per round, each on pairs drawn from all labels so far.
        pairs_per_step: Pairs in each of these.
        seed: The run's.
        folder: Gets the pairs of an update that is not finite.
        in_process: Whether updates and sampling share this process.
    """

    def __init__(
        self,
        trainer: PolicyTrainer | FixedPolicy,
        *,
        sync_interval: int | None,
        needs_initial: bool,
        replay: int,
        pairs_per_step: int,
        seed: int,
        folder: Path,
        in_process: bool,
    ) -> None:
        self.trainer = trainer
        # Weights that are not copied are those of the last update.
        of_the_past = sync_interval is not None and sync_interval > 1
        self.weights = Publisher(trainer, copies=of_the_past or not in_process)
        self._sync_interval = sync_interval
        self._needs_initial = needs_initial
        self._replay = replay
        self._pairs_per_step = pairs_per_step
        self._seed = seed
        self._folder = folder
        self._sampling: PublishedPolicy | None = None

    @property
    def is_trained(self) -> bool:
        """Whether there is anything to update."""
        return not isinstance(self.trainer, FixedPolicy)

    @property
    def sampling(self) -> PublishedPolicy:
        """The version that samples."""
        if self._sampling is None:
            self._sampling = self.weights.initial()
        return self._sampling

    def learn(
        self,
        round_index: int,
        pairs: Sequence[PreferencePair],
        labelled: Sequence[int],
        fetch: Callable[[Sequence[int]], tuple[list[PreferencePair], list[int]]],
    ) -> dict[str, float]:
        """One step of the direct loss on the mixed batch, then those on replayed labels.

        Args:
            round_index: The round.
            pairs: Its pairs, real and synthetic.
            labelled: Ids of all questions with a label so far; of this round, too.
            fetch: Gives the pairs of ids, and the rounds that asked them.

        Returns:
            The metrics of the first step, and of replay.
        """
        metrics = self._step(round_index, pairs) if pairs else {}
        if self.is_trained and self._replay and labelled:
            metrics |= self._replay_labels(round_index, labelled, fetch)
        self._sync(round_index)
        return metrics

    def reinforce(
        self, round_index: int, proposals: Sequence[Proposal], options: ReinforceOptions
    ) -> dict[str, float]:
        """One step of REINFORCE on candidates, by the rewards that they were selected by.

        Args:
            round_index: The round.
            proposals: Its proposals, with rewards; without any no step is made.
            options: The loss's.

        Returns:
            The step's metrics.
        """
        prompts = [_judged(proposal, options) for proposal in proposals]
        metrics = {}
        if prompts:
            metrics = self._applied(round_index, prompts, self.trainer.reinforce)
        self._sync(round_index)
        return metrics

    def _sync(self, round_index: int) -> None:
        """Has the trained weights sample, if it is time."""
        if self._sync_interval is not None and (round_index + 1) % self._sync_interval == 0:
            self._sampling = None  # the object store need not hold old and new weights
            if self._sync_interval == 1 and not self._needs_initial:
                self.weights.forget_initial()
            self._sampling = self.weights.current()

    def _replay_labels(
        self,
        round_index: int,
        labelled: Sequence[int],
        fetch: Callable[[Sequence[int]], tuple[list[PreferencePair], list[int]]],
    ) -> dict[str, float]:
        losses, ages = [], []
        for step in range(self._replay):
            rng = generator(self._seed, round_index, step, Stream.POLICY_REPLAY)
            drawn = draw_replayed(len(labelled), self._pairs_per_step, rng)
            pairs, rounds = fetch([labelled[i] for i in drawn])
            losses.append(self._step(round_index, pairs)["loss"])
            ages += [round_index - asked_in for asked_in in rounds]
        return {"replay_loss": float(np.mean(losses)), "replay_age": float(np.mean(ages))}

    def _step(self, round_index: int, pairs: Sequence[PreferencePair]) -> dict[str, float]:
        """One step of the direct loss."""
        return self._applied(round_index, pairs, self.trainer.update)

    def _applied(
        self,
        round_index: int,
        examples: Sequence[Example],
        update: Callable[[Sequence[Example]], dict[str, float]],
    ) -> dict[str, float]:
        """Makes a step; one that is not finite leaves its examples in a file."""
        try:
            return update(examples)
        except NonFiniteUpdateError as error:
            path = self._folder / f"non_finite_round_{round_index}.json"
            path.write_text(json.dumps([dataclasses.asdict(example) for example in examples]))
            raise RuntimeError(f"{error}; what it learned from is in {path}") from error

    def implicit_rewards(self, proposals: Sequence[Proposal]) -> np.ndarray:
        """(B, M) ``log pi - log pi_ref`` of each candidate, by the current policy."""
        scores = self.trainer.score([_responses(proposal) for proposal in proposals])
        return scores.implicit_rewards.reshape(len(proposals), -1)

    def get_state(self) -> dict[str, Any]:
        """The version that samples; its weights if the Ray Train run's folder has others."""
        policy = self.sampling
        others = policy.version not in (0, self.trainer.version)
        return {"version": policy.version, "weights": policy.fetch() if others else None}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Takes over :meth:`get_state`; see :meth:`restored` for the rest."""
        # Without weights it is the initial one, or the current one.
        version, weights = state["version"], state["weights"]
        ref = None if weights is None else ray.put(weights)
        self._sampling = PublishedPolicy(version, ref) if version else self.weights.initial()

    def restored(self) -> None:
        """To be called if the Ray Train run has gone on from a folder."""
        self.weights.forget_current()
        if self.sampling.version == self.trainer.version:
            self._sampling = self.weights.current()


def _judged(proposal: Proposal, options: ReinforceOptions) -> CandidateAdvantages:
    """A prompt's candidates that are learned from, and how much better than all others each is."""
    advantage = advantages(proposal.rewards[:, None], options.nudge)[0]
    learned = extreme(advantage, options.extremes)
    responses = tuple(proposal.candidates[i].token_ids for i in learned)
    return CandidateAdvantages(
        PromptResponses(proposal.prompt_token_ids, responses), tuple(advantage[learned].tolist())
    )


def _responses(proposal: Proposal) -> PromptResponses:
    """A prompt with its candidates, as tokens."""
    return PromptResponses(
        proposal.prompt_token_ids, tuple(c.token_ids for c in proposal.candidates)
    )
