"""One seed of one method: Algorithm 2 on the bandit, with the plugin's own rules."""

from __future__ import annotations

import math

import numpy as np
import torch

from rllib_sea.duels.audit import Audit, foreseen
from rllib_sea.duels.plan import Counts, plan_round
from rllib_sea.exploration import STRATEGIES, Proposals
from rllib_sea.exploration.mixing import mix
from rllib_sea.policy_update.objectives.reinforce import REINFORCE, advantages
from rllib_sea.policy_update.replay import draw_replayed
from rllib_sea.policy_update.schedule import controlled_share
from rllib_sea.randomness import Stream, generator, generators
from rllib_sea.reward_model.health import argmax_agreement, member_disagreement
from studies.bandit.environment import (
    best_of_n,
    divergence,
    expected_value,
    make_world,
    regret,
)
from studies.bandit.policy import SoftmaxPolicy
from studies.bandit.records import Duels, LabelledPairs
from studies.bandit.results import interpolate
from studies.bandit.reward_model import BanditRewardModel
from studies.bandit.settings import Settings

MEASURE_EVERY = 100  # queries
# A policy that gives one response per prompt leaves nothing to ask: a run ends after so many times
# the rounds that its budget takes if every prompt has a duel, none synthetic; or, if those are
# more, after so many times those that it takes with its share of synthetic ones.
MAX_ROUNDS, MAX_MIXED_ROUNDS = 2, 1.05


COLUMNS = (
    "win_rate",  # of the policy over its start
    "best_of_n",  # of the best of N by the ERM's mean
    "regret",  # cumulative, against the best response there is
    "pool_regret",  # cumulative, against the best of the candidates
    "online_win_rate",  # mean over all duels asked so far, both responses against the start
    "accuracy",  # of the ERM's mean, pairs of the reference policy, without label noise
    "pool_accuracy",  # the same on pairs of the round's candidates
    "disagreement",  # standard deviation over members of a win probability
    "agreement",  # share of members that have the most popular favourite
    "distinct",  # different responses among a prompt's candidates
    "asked",  # queries; less than those of the row if the run had ended
    "steps",  # updates of the policy so far
    "kl",  # of the policy from the reference policy, mean over prompts, in nats
    "dropped",  # pairs so far that the ERM would label, and did not
    "trusted",  # whether the ERM may label pairs
    "replay_age",  # mean over the pairs replayed since the last measurement, in rounds
)


class Simulation:
    """A run.

    Args:
        settings: What to run.
        seed: Of the bandit and of every draw; methods with the same seed meet the same world.
    """

    def __init__(self, settings: Settings, seed: int) -> None:
        self.settings = settings
        self._seed = seed
        self.world = make_world(seed)
        self._wins = self.world.win_probabilities()
        self.policy = SoftmaxPolicy(self.world, settings.lr, seed)
        self.reward_model = BanditRewardModel(settings.reward_model, seed)
        self.queries = 0
        self._round = 0
        self._drawn = 0
        self._sampler = self.world.reference_log_probs  # log-probabilities of who samples
        self._steps = 0
        self._oracles: LabelledPairs | None = None  # what replay draws from
        self.audit = Audit(settings.mixing(), note=_silent, warn=_silent)
        self._rate_share = 1.0  # of the learning rate, by the controller
        self._dropped = 0  # pairs that the ERM did not label
        self._ages: list[np.ndarray] = []  # of the pairs replayed since the last measurement
        self._sums = dict.fromkeys(("regret", "pool_regret", "online_win_rate"), 0.0)
        self._prompts = torch.arange(len(self._sampler))
        rng = generator(seed, 0, 0, Stream.BEST_OF_N)
        self._test = sample(self._sampler, rng.random((len(self._sampler), 10)))

    def run(self) -> list[dict[str, float]]:
        """Runs until the budget is used; one row every 100 queries, and one at the start.

        Returns:
            Rows of :data:`COLUMNS` and ``queries``, interpolated between rounds. A run that
            ended early, since hardly a prompt had two responses left, stays as it was.
        """
        settings, measured, last_round = self.settings, [self._measure(None)], self._last_round
        while self.queries < settings.query_budget and self._round < last_round:
            duels = self.step()
            due = self.queries // MEASURE_EVERY > measured[-1]["queries"] // MEASURE_EVERY
            if due or self.queries == settings.query_budget or self._round == last_round:
                measured.append(self._measure(duels))
        if self.queries < settings.query_budget:
            measured.extend(self._as_it_would_go_on(measured[-1]))
        at = [row["queries"] for row in measured]
        grid = np.arange(0, self.settings.query_budget + 1, MEASURE_EVERY)
        curves = {
            name: interpolate(grid, np.array(at), np.array([row[name] for row in measured]))
            for name in COLUMNS
        }
        return [
            {"queries": float(queries)} | {name: float(curves[name][i]) for name in COLUMNS}
            for i, queries in enumerate(grid)
        ]

    @property
    def _last_round(self) -> int:
        """The round that a run ends after although its budget is not used."""
        settings = self.settings
        warm_up = min(settings.warm_up, settings.query_budget)
        labels = warm_up + (settings.query_budget - warm_up) / settings.gamma
        plain = MAX_ROUNDS * settings.query_budget // settings.prompts_per_round
        return max(plain, math.ceil(MAX_MIXED_ROUNDS * labels / settings.prompts_per_round))

    def _as_it_would_go_on(self, last: dict[str, float]) -> list[dict[str, float]]:
        """The rows until the budget's end of a run that ended early.

        Users go on getting the policy's responses: regret grows, and what they make of them
        changes if their preferences do.
        """
        with torch.inference_mode():
            probabilities = self.policy.log_probs(self._prompts).exp()
        budget, drift_at = self.settings.query_budget, self.settings.drift_at
        ends = [budget]
        if drift_at is not None and self.queries < drift_at <= budget:
            ends = [drift_at - 1, drift_at, budget]
        rows = []
        for end in ends:
            more = end - self.queries
            best = float(self._rewards.max(dim=1).values.mean())
            regret = best - expected_value(probabilities, self._rewards)
            online = last["online_win_rate"] * self.queries + last["win_rate"] * more
            self.queries = end
            last = last | {
                "queries": float(end),
                "win_rate": expected_value(probabilities, self._win_table),
                "regret": last["regret"] + more * regret,
                "online_win_rate": online / end,
            }
            rows.append(last)
        return rows

    @property
    def regret(self) -> float:
        """Cumulative, against the best response there is."""
        return self._sums["regret"]

    # -- One round --------------------------------------------------------------------

    def step(self) -> Duels:
        """One round of Algorithm 2: duels, labels, ERM update, policy update."""
        settings = self.settings
        duels = self._duels()
        pairs = LabelledPairs(
            prompts=duels.prompts,
            chosen=np.where(duels.first_wins, duels.first, duels.second),
            rejected=np.where(duels.first_wins, duels.second, duels.first),
            chosen_from_reference=duels.first_wins == duels.first_from_reference,
            rounds=np.full(len(duels.prompts), self._round),
            preference=np.maximum(duels.preference, 1 - duels.preference),
        )
        real = pairs[duels.real]
        self.queries += int(duels.real.sum())
        self._audit_labels(duels)
        if settings.uses_reward_model:
            prompts = torch.from_numpy(real.prompts)
            self.reward_model.learn(
                self._round,
                np.flatnonzero(duels.real),
                *(
                    self.world.features(prompts, torch.from_numpy(responses)).numpy()
                    for responses in (real.chosen, real.rejected)
                ),
            )
        if settings.update_policy and settings.loss == REINFORCE:
            self._reinforce(duels)
        elif settings.update_policy:
            self._update_policy(pairs[duels.valid])
            self._replay(real)
        self._round += 1
        if settings.sync_interval and self._round % settings.sync_interval == 0:
            with torch.inference_mode():
                self._sampler = self.policy.log_probs(self._prompts)
        return duels

    def _audit_labels(self, duels: Duels) -> None:
        """Tests the ERM by the round's labels, before it learns from them."""
        tests = duels.real & (duels.audited if self.settings.audit_share else True)
        pairs = np.stack([duels.first_place, duels.second_place], axis=1)[tests]
        rows = np.flatnonzero(tests)[:, None]
        right = foreseen(duels.rewards[:, rows, pairs].transpose(1, 2, 0), duels.first_wins[tests])
        self.audit.test(right, self.queries)

    def _update_policy(self, pairs: LabelledPairs) -> None:
        """One step of the direct loss on pairs, if there are any."""
        if len(pairs) == 0:
            return
        settings = self.settings
        self._control_rate()
        self.policy.update(
            torch.from_numpy(pairs.prompts),
            torch.from_numpy(pairs.chosen),
            torch.from_numpy(pairs.rejected),
            preference=torch.from_numpy(pairs.preference).float(),
            rate_share=self._rate_share,
            loss=settings.loss,
            beta=settings.beta,
            optimism=settings.optimism,
            optimism_alpha=settings.optimism_alpha,
            chosen_from_reference=torch.from_numpy(pairs.chosen_from_reference),
        )
        self._steps += 1

    def _control_rate(self) -> None:
        """Sets the learning rate by how far the policy has gone."""
        settings = self.settings
        if settings.kl_target is not None:
            target = settings.kl_target * self.queries / settings.query_budget
            self._rate_share = controlled_share(self._rate_share, self._divergence(), target)

    def _reinforce(self, duels: Duels) -> None:
        """One step on all candidates, by the rewards that they were selected by."""
        settings = self.settings
        if self.queries < settings.warm_up or not self.audit.trusted:  # the ERM knows too little
            return
        self._control_rate()
        self.policy.reinforce(
            torch.from_numpy(duels.prompts),
            torch.from_numpy(duels.pool),
            torch.from_numpy(advantages(duels.rewards)).float(),
            rate_share=self._rate_share,
            beta=settings.beta,
        )
        self._steps += 1

    def _replay(self, labelled: LabelledPairs) -> None:
        """The round's further steps on the oracle's pairs, those just labelled among them."""
        settings = self.settings
        oracles = labelled if self._oracles is None else self._oracles + labelled
        for step in range(settings.policy_replay):
            rng = generator(self._seed, self._round, step, Stream.POLICY_REPLAY)
            drawn = oracles[draw_replayed(len(oracles), settings.prompts_per_round, rng)]
            self._update_policy(drawn)
            self._ages.append(self._round - drawn.rounds)
        self._oracles = oracles

    def _duels(self) -> Duels:
        """The round's prompts, candidates, pairs and labels (Algorithm 2, lines 2 to 6)."""
        settings, seed, number = self.settings, self._seed, self._round
        plan = plan_round(
            Counts(round=number, num_oracle_queries=self.queries, num_prompts_drawn=self._drawn),
            num_prompts=len(self._sampler),
            prompts_per_round=settings.prompts_per_round,
            prompt_pool_size=None,
            query_budget=settings.query_budget,
            gamma=settings.gamma_schedule(),
            trusted=self.audit.trusted and self._is_near,
            audit_share=settings.audit_share,
            seed=seed,
        )
        places, synthetic = range(plan.num_duels), np.array(plan.synthetic)
        prompts = np.array(plan.prompts)
        self._drawn += plan.num_duels

        pool, proposals = self._propose(prompts)
        selection = STRATEGIES[settings.strategy].select(
            proposals,
            generators(seed, number, places, Stream.SELECTION),
            **settings.options,
        )
        pairs = mix(
            selection,
            proposals,
            settings.mixing(),
            synthetic=plan.synthetic,
            audited=plan.audited,
            rngs=generators(seed, number, places, Stream.SYNTHETIC_LABEL),
        )
        kept = np.array([reason is None for reason in pairs.dropped])
        self._dropped += int((selection.valid & ~kept).sum())
        rows = np.arange(len(places))
        first, second = pool[rows, pairs.first], pool[rows, pairs.second]
        real = selection.valid & ~synthetic
        scores = self._rewards.numpy()
        first_score, second_score = scores[prompts, first], scores[prompts, second]
        uniforms = generator(seed, number, 0, Stream.LABEL).random((len(places), 2))
        labels = settings.labeller.first_wins(first_score, second_score, uniforms)

        best, pool_best = scores[prompts].max(axis=1), scores[prompts[:, None], pool].max(axis=1)
        wins = self._win_table.numpy()
        online = (wins[prompts, first] + wins[prompts, second]) / 2
        self._sums["regret"] += regret(best, first_score, second_score)[real].sum()
        self._sums["pool_regret"] += regret(pool_best, first_score, second_score)[real].sum()
        self._sums["online_win_rate"] += online[real].sum()
        return Duels(
            prompts=prompts,
            pool=pool,
            rewards=proposals.rewards.numpy(),
            first_place=pairs.first,
            second_place=pairs.second,
            first=first,
            second=second,
            first_from_reference=proposals.from_reference.numpy()[pairs.first],
            valid=selection.valid & kept,
            real=real,
            audited=pairs.audited,
            preference=np.where(synthetic, pairs.preference, labels),
        )

    def _propose(self, prompts: np.ndarray) -> tuple[np.ndarray, Proposals]:
        """(B, M) sampled responses, as indices, and what the strategies see of them."""
        settings = self.settings
        strategy = STRATEGIES[settings.strategy]
        num = settings.num_candidates
        num_reference = num // 2 if strategy.reference_candidates else 0
        reference, sampler = self.world.reference_log_probs[prompts], self._sampler[prompts]
        uniforms = generator(self._seed, self._round, 0, Stream.SAMPLING).random(
            (len(prompts), num)
        )
        own = num - num_reference
        pool = np.concatenate(
            [sample(sampler, uniforms[:, :own]), sample(reference, uniforms[:, own:])], axis=1
        )
        index = torch.from_numpy(pool)
        log_probs = sampler.gather(1, index)
        rewards = torch.zeros(settings.reward_model.num_members, *pool.shape)
        if settings.uses_reward_model:
            rows = torch.from_numpy(prompts)[:, None].expand_as(index)
            rewards = self.reward_model.rewards(self.world.features(rows, index))
        return pool, Proposals(
            rewards=rewards,
            texts=index,
            log_probs=log_probs,
            implicit_rewards=(
                log_probs - reference.gather(1, index) if strategy.needs_implicit_rewards else None
            ),
            from_reference=torch.arange(num) >= own,
            finished=torch.ones(index.shape, dtype=torch.bool),
        )

    # -- Measuring --------------------------------------------------------------------

    @torch.inference_mode()
    def _divergence(self) -> float:
        """Of the policy from the reference policy, in nats."""
        return divergence(self.policy.log_probs(self._prompts), self.world.reference_log_probs)

    @property
    def _is_near(self) -> bool:
        """Whether the policy has not gone too far for the ERM's own labels."""
        limit = self.settings.mixing_kl_limit
        return limit is None or self._divergence() <= limit

    def _best_of_n_is_due(self) -> bool:
        """At every fourth measurement, and at the end: it takes longer than all others."""
        quarter = self.queries // MEASURE_EVERY % 4 == 0
        return quarter or self.queries == self.settings.query_budget

    @property
    def _drifted(self) -> int:
        drift_at = self.settings.drift_at
        return int(drift_at is not None and self.queries >= drift_at)

    @property
    def _rewards(self) -> torch.Tensor:
        """(C, R) the hidden rewards now."""
        return self.world.rewards[self._drifted]

    @property
    def _win_table(self) -> torch.Tensor:
        """(C, R) the probability now that a response beats one of the reference policy."""
        return self._wins[self._drifted]

    @torch.inference_mode()
    def _measure(self, duels: Duels | None) -> dict[str, float]:
        """The columns, of a round's duels if they are of duels."""
        settings = self.settings
        log_probs = self.policy.log_probs(self._prompts)
        probabilities = log_probs.exp()
        row = dict.fromkeys(COLUMNS, math.nan) | self._sums | {"queries": float(self.queries)}
        row["asked"] = float(self.queries)
        row["steps"] = float(self._steps)
        row["dropped"] = float(self._dropped)
        row["trusted"] = float(self.audit.trusted)
        row["kl"] = divergence(log_probs, self.world.reference_log_probs)
        if self._ages:
            row["replay_age"] = float(np.concatenate(self._ages).mean())
            self._ages.clear()
        row["win_rate"] = expected_value(probabilities, self._win_table)
        row["online_win_rate"] = self._sums["online_win_rate"] / max(self.queries, 1)
        if settings.best_of_n is not None and self._best_of_n_is_due():
            features = self.world.all_features(self._prompts)
            scores = self.reward_model.rewards(features).mean(dim=0)
            best = best_of_n(probabilities, scores, settings.best_of_n)
            row["best_of_n"] = expected_value(best, self._win_table)
        if duels is not None:
            row["distinct"] = float(np.mean([len(np.unique(pool)) for pool in duels.pool]))
        if settings.uses_reward_model:
            prompts, index = self._prompts[:, None], torch.from_numpy(self._test)
            rewards = self.reward_model.rewards(
                self.world.features(prompts.expand_as(index), index)
            ).numpy()
            true = self._rewards.gather(1, index).numpy()
            row["accuracy"], _ = pair_health(rewards, self._test, true)
        if settings.uses_reward_model and duels is not None:
            true = self._rewards.numpy()[duels.prompts[:, None], duels.pool]
            row["pool_accuracy"], row["disagreement"] = pair_health(duels.rewards, duels.pool, true)
            row["agreement"] = argmax_agreement(duels.rewards, duels.pool)
        return row


def _silent(line: str) -> None:
    """What a run tells is not for a study."""


def sample(log_probs: torch.Tensor, uniforms: np.ndarray) -> np.ndarray:
    """(B, M) samples of distributions (B, R), by inverting their distribution functions.

    Args:
        log_probs: (B, R).
        uniforms: (B, M) draws from [0, 1).
    """
    below = log_probs.double().exp().cumsum(dim=1)
    drawn = torch.from_numpy(uniforms) * below[:, -1:]
    return torch.searchsorted(below, drawn, right=True).clamp(max=below.shape[1] - 1).numpy()


def pair_health(rewards: np.ndarray, texts: np.ndarray, scores: np.ndarray) -> tuple[float, float]:
    """How the ERM does on all pairs of different responses to a prompt.

    Args:
        rewards: (K, B, M) by the members.
        texts: (B, M) identities of the responses.
        scores: (B, M) hidden rewards.

    Returns:
        Share of the pairs that the mean reward puts in the right order, and
        :func:`rllib_sea.reward_model.health.member_disagreement`; NaN without pairs.
    """
    first, second = np.triu_indices(texts.shape[1], k=1)
    rows, pairs = np.nonzero(texts[:, first] != texts[:, second])
    if len(rows) == 0:
        return math.nan, math.nan
    first, second = first[pairs], second[pairs]
    both = np.stack([rewards[:, rows, first], rewards[:, rows, second]]).transpose(2, 0, 1)
    favoured = (both[:, 0] - both[:, 1]).mean(axis=1) > 0
    right = favoured == (scores[rows, first] > scores[rows, second])
    return float(right.mean()), member_disagreement(both)
