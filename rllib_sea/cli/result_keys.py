"""The names of a SEA result, to catch a misspelt one before the run: docs/metrics.md."""

from __future__ import annotations

from text_duel.errors import ConfigError, nearest

_TUNE = ("training_iteration", "time_total_s", "time_since_restore", "iterations_since_restore")
_COUNTERS = (
    "num_oracle_queries",
    "query_budget",
    "round",
    "rounds_left",
    "num_prompts_drawn",
    "num_synthetic_pairs",
    "num_skipped_prompts",
    "num_prompts_too_long",
    "num_evaluation_questions",
    "num_initial_preferences",
    "policy_steps",
)
_OUTCOMES = (
    "win_rate_vs_initial",
    "win_rate_vs_initial_soft",
    "win_rate_vs_reference",
    "win_rate_vs_reference_soft",
    "mean_score",
)
_ESTIMATES = (
    *_OUTCOMES,
    *(f"best_of_n_{name}" for name in _OUTCOMES),
    "initial_mean_score",
    "kl",
)
_GROUPS = {
    "duels": (
        "gamma",
        "num_skipped",
        "num_skipped_incomplete",
        "num_skipped_non_finite",
        "num_skipped_one_text",
        "clash_rate",
        "online_win_rate",
        "online_win_rate_soft",
        "mean_score",
        "pool_regret",
        "cumulative_pool_regret",
        "synthetic_label_accuracy",
        "finished_share",
        "response_length",
    ),
    "reward_model": (
        "accuracy_on_new_labels",
        "probability_of_new_labels",
        "member_disagreement",
        "argmax_agreement",
        "calibration_error",
        "total_loss",
        "nll",
        "accuracy",
        "distance_from_start",
    ),
    "policy": (
        "loss",
        "optimism",
        "grad_norm",
        "lr",
        "margin",
        "accuracy",
        "chosen_logp",
        "rejected_logp",
        "replay_loss",
        "replay_age",
        "sampler_gap",
    ),
    "evaluation": (
        "num_prompts",
        *_ESTIMATES,
        *(f"{name}_low" for name in _ESTIMATES),
        *(f"{name}_high" for name in _ESTIMATES),
        "response_length",
        "finished_share",
        "best_of_n_response_length",
        "best_of_n_finished_share",
        "seconds",
    ),
    "seconds": (
        "round",
        "initial_preferences",
        "rehearsal",
        "propose",
        "propose_sync",
        "propose_generate",
        "propose_encode",
        "select",
        "label",
        "erm",
        "policy",
        "measure",
    ),
}
RESULT_KEYS = frozenset(
    (*_TUNE, *_COUNTERS, *(f"{group}/{name}" for group, names in _GROUPS.items() for name in names))
)


def check_result_key(where: str, key: object) -> None:
    """Raises ConfigError unless SEA reports a result of this name.

    Tune itself would wait for it until the run ends otherwise.
    """
    if key not in RESULT_KEYS:
        raise ConfigError(
            f"{where}: results have no key {key!r}{nearest(str(key), RESULT_KEYS)}; "
            "docs/metrics.md names all"
        )
