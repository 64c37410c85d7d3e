"""What the Algorithm asks of an env runner, and what comes back.

A task says everything that a runner needs: a runner keeps no random state, no place in
the prompts and no count of its own, so that a task can be given to any runner, again.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from rllib_sea.duels.records import Duel


@dataclass(frozen=True, slots=True)
class RoundTask:
    """One env runner's share of a round.

    Attributes:
        round: The round's number, from 0.
        positions: Places of the prompts in the round's batch.
        prompt_indices: The prompts, as indices into the training prompts.
        synthetic: Which of them are labelled by the ERM instead of the oracle.
    """

    round: int
    positions: tuple[int, ...]
    prompt_indices: tuple[int, ...]
    synthetic: tuple[bool, ...]


@dataclass(slots=True)
class RoundShare:
    """What one env runner made of its task.

    Attributes:
        duels: The labelled duels.
        positions: The task's positions, all answered for.
        skipped_prompt_ids: Prompts without a duel, because all candidates were one text.
        online_wins: Probability that each duelled response of a real duel is preferred
            to the reference response, two a duel; empty where there is no reference.
        num_evaluation_questions: Questions put to the oracle that were no queries.
        num_candidates: Responses sampled.
        num_finished: How many of them ended by themselves.
        num_tokens: Their tokens.
        argmax_agreement: Mean share of members that like the ensemble's most popular
            favourite best; 1 means that the ensemble no longer disagrees.
        seconds: Seconds spent in ``sync``, ``generate``, ``encode``, ``select``, ``label``.
    """

    duels: list[Duel]
    positions: tuple[int, ...]
    skipped_prompt_ids: list[str] = field(default_factory=list)
    online_wins: list[float] = field(default_factory=list)
    num_evaluation_questions: int = 0
    num_candidates: int = 0
    num_finished: int = 0
    num_tokens: int = 0
    argmax_agreement: float = float("nan")
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failure:
    """An expected failure, returned as data.

    RLlib ends an env runner whose call raises, and starts another; that is right for
    a crash and wrong for an oracle that refuses.

    Attributes:
        error: One line for the user.
        traceback: Where it came from.
    """

    error: str
    traceback: str


@dataclass(frozen=True, slots=True)
class EvaluatedResponse:
    """The policy's greedy response to one held-out prompt.

    Attributes:
        prompt_id: The prompt's identity in its source.
        prompt_text: What the policy was asked.
        response: The response.
        num_tokens: Its length in tokens.
        finished: Whether it ended by itself.
        win_vs_initial: Probability that it is preferred to the initial policy's greedy
            response; 0.5 where both are the same text.
        win_vs_reference: The same against the reference response; NaN without one.
        score: The oracle's score; NaN where it has none.
        initial_score: Its score of the initial policy's response.
    """

    prompt_id: str
    prompt_text: str
    response: str
    num_tokens: int
    finished: bool
    win_vs_initial: float
    win_vs_reference: float
    score: float
    initial_score: float
