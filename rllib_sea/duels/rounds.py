"""What the Algorithm asks of an env runner, and what comes back; what is measured beside it.

A call says everything that a runner needs: a runner keeps no random state, no place in the prompts
and no count of its own, so that a call can be made on any runner, again.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from rllib_sea.duels.records import Candidate


@dataclass(frozen=True, slots=True)
class TokenizedPrompt:
    """A prompt as the policy sees it.

    Attributes:
        id: Its identity in its source.
        text: What the policy is asked.
        token_ids: The same as tokens.
    """

    id: str
    text: str
    token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ProposalTask:
    """One env runner's share of a round's prompts.

    Attributes:
        round: The round's number, from 0.
        positions: Places of the prompts in the round's batch.
        prompts: The prompts.
    """

    round: int
    positions: tuple[int, ...]
    prompts: tuple[TokenizedPrompt, ...]


@dataclass(frozen=True, slots=True)
class Proposal:
    """The candidates of one prompt (S of Algorithm 2, line 3).

    Attributes:
        position: The prompt's place in the round's batch.
        prompt_id: Its identity in its source.
        prompt_text: What the policy was asked.
        prompt_token_ids: The same as tokens.
        candidates: M sampled responses; those from the reference policy last.
        num_from_reference: How many were sampled from the reference policy.
        features: (M, d) encoder features, float32.
        rewards: (K, M) rewards by each ensemble member, float32.
        policy_version: The version of the weights that sampled the responses.
    """

    position: int
    prompt_id: str
    prompt_text: str
    prompt_token_ids: tuple[int, ...]
    candidates: tuple[Candidate, ...]
    num_from_reference: int
    features: np.ndarray
    rewards: np.ndarray
    policy_version: int


@dataclass(frozen=True, slots=True)
class ProposalShare:
    """What one env runner made of its :class:`ProposalTask`.

    Attributes:
        proposals: One per prompt, in the task's order.
        seconds: Seconds spent in ``sync``, ``generate`` and ``encode``.
        sampler_gap: Nats per token between the engine and the policy that was published, at the
            engine's last audit; NaN if there is none, as with a policy that is not trained.
    """

    proposals: list[Proposal]
    seconds: dict[str, float]
    sampler_gap: float


@dataclass(frozen=True, slots=True)
class Measurement:
    """What the oracle said about a round beyond its labels.

    Attributes:
        online_wins: Probability that each given response is preferred to its prompt's
            reference response; 0.5 if both are the same text, NaN without a reference.
        pool_scores: The oracle's scores of each pool's candidates, (M,) each.
        num_questions: Comparisons and scores that the oracle was asked for.
    """

    online_wins: list[float] = field(default_factory=list)
    pool_scores: list[np.ndarray] = field(default_factory=list)
    num_questions: int = 0


@dataclass(frozen=True, slots=True)
class Failure:
    """An expected failure, returned as data.

    RLlib ends an env runner whose call raises, and starts another; that is right for a crash and
    wrong for what would fail again.

    Attributes:
        error: One line for the user.
        traceback: Where it came from.
    """

    error: str
    traceback: str


@dataclass(frozen=True, slots=True)
class HeldOutResponses:
    """What the current policy answers to one held-out prompt.

    Attributes:
        prompt_token_ids: The prompt as the policy sees it.
        greedy: The greedy response.
        best_of_n: The best of N sampled responses by the ERM's mean reward; None if it was not
            asked for.
        sampled_token_ids: A response sampled at temperature 1, for the KL divergence; None if it
            was not asked for.
        samples: Sampled responses that are compared, too; those of ``evaluation_samples``.
    """

    prompt_token_ids: tuple[int, ...]
    greedy: Candidate
    best_of_n: Candidate | None
    sampled_token_ids: tuple[int, ...] | None
    samples: tuple[Candidate, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """One response to a held-out prompt, compared.

    Attributes:
        response: The response.
        num_tokens: Its length in tokens.
        finished: Whether it ended by itself.
        win_vs_initial: Probability that it is preferred to the initial policy's greedy
            response, a sampled one to a sampled one; 0.5 if both are the same text.
        win_vs_reference: The same against the reference response; NaN without one.
        score: The oracle's score; NaN if it has none.
        num_questions: Comparisons that the oracle was asked for.
    """

    response: str
    num_tokens: int
    finished: bool
    win_vs_initial: float
    win_vs_reference: float
    score: float
    num_questions: int


@dataclass(frozen=True, slots=True)
class ReferenceFit:
    """How probable the beginning of a prompt's reference response is.

    Attributes:
        num_tokens: Its tokens, as many as a response may have at most.
        log_prob: Under the policy, summed over them, in nats.
        initial_log_prob: Under the reference policy, which the run started from.
    """

    num_tokens: int
    log_prob: float
    initial_log_prob: float


@dataclass(frozen=True, slots=True)
class EvaluatedPrompt:
    """What the current policy answers to one held-out prompt.

    Attributes:
        prompt_id: The prompt's identity in its source.
        prompt_text: What the policy was asked.
        prompt_token_ids: The same as tokens.
        reference: The reference response; None without one.
        initial_response: The initial policy's greedy response.
        initial_score: The oracle's score of the initial policy's greedy response; NaN if
            it has none.
        greedy: The greedy response.
        best_of_n: The best of N sampled responses by the ERM's mean reward; None if it
            was not asked for.
        sampled_token_ids: A response sampled at temperature 1, for the KL divergence; None
            if it was not asked for.
        samples: Sampled responses, each compared with a sampled one of the initial policy.
        kl: The KL divergence of the policy from its reference on that response, summed over
            its tokens, in nats; NaN if it was not asked for.
        reference_fit: Of the prompts that the divergence is estimated on; None without a
            reference.
        features: (2, d) encoder features of the greedy response and of the initial policy's; None
            of a policy that stays, and beyond the first prompts.
        pair: The greedy response and the initial policy's, as sampled.
    """

    prompt_id: str
    prompt_text: str
    prompt_token_ids: tuple[int, ...]
    reference: str | None
    initial_response: str
    initial_score: float
    greedy: Outcome
    best_of_n: Outcome | None
    sampled_token_ids: tuple[int, ...] | None
    samples: tuple[Outcome, ...] = ()
    kl: float = float("nan")
    reference_fit: ReferenceFit | None = None
    features: np.ndarray | None = None
    pair: tuple[Candidate, Candidate] | None = None
