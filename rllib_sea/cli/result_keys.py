"""The names of a SEA result, to catch a misspelt one before the run: docs/metrics.md."""

from __future__ import annotations

from text_duel.errors import ConfigError, nearest

# A group, then its names; what stands in no group first.
_NAMES = """
training_iteration time_total_s time_since_restore iterations_since_restore
num_oracle_queries query_budget round rounds_left num_prompts_drawn num_synthetic_pairs
num_skipped_prompts num_prompts_too_long num_evaluation_questions num_initial_preferences
num_open_questions num_skipped_questions num_withdrawn_questions num_texts_cut policy_steps

duels/
gamma num_late_labels staleness num_skipped num_skipped_incomplete num_skipped_non_finite
num_skipped_one_text num_skipped_disagreement num_skipped_cut_winner clash_rate
online_win_rate online_win_rate_soft mean_score pool_regret
cumulative_pool_regret synthetic_label_accuracy finished_share response_length

reward_model/
accuracy_on_new_labels probability_of_new_labels member_disagreement argmax_agreement
calibration_error audit_accuracy audit_bound audit_labels total_loss nll accuracy
distance_from_start
estimated_win_rate next_labels expected_gain

policy/
loss optimism grad_norm lr margin accuracy chosen_logp rejected_logp replay_loss replay_age
kl advantage sampler_gap

evaluation/
num_prompts win_rate_vs_initial win_rate_vs_initial_soft win_rate_vs_reference
win_rate_vs_reference_soft mean_score initial_mean_score kl
best_of_n_win_rate_vs_initial best_of_n_win_rate_vs_initial_soft
best_of_n_win_rate_vs_reference best_of_n_win_rate_vs_reference_soft best_of_n_mean_score
response_length finished_share best_of_n_response_length best_of_n_finished_share seconds
sampled_win_rate_vs_initial sampled_win_rate_vs_initial_soft sampled_mean_score
sampled_response_length sampled_finished_share
repeated_share copied_share reference_perplexity initial_finished_share initial_repeated_share
initial_copied_share initial_reference_perplexity num_judged

seconds/
round initial_preferences rehearsal propose propose_sync propose_generate propose_encode select
label people_idle erm policy measure
"""
# Names that end so are estimates, with the ends of an interval.
_ESTIMATES = {
    "evaluation/": ("win_rate_vs_initial", "win_rate_vs_reference", "_soft", "mean_score", "/kl"),
    "reward_model/": ("estimated_win_rate", "expected_gain"),
}


def _result_keys() -> frozenset[str]:
    keys, group = set(), ""
    for name in _NAMES.split():
        if name.endswith("/"):
            group = name
            continue
        key = group + name
        keys.add(key)
        if key.endswith(_ESTIMATES.get(group, ())):
            keys |= {f"{key}_low", f"{key}_high"}
    return frozenset(keys)


RESULT_KEYS = _result_keys()


def check_result_key(where: str, key: object) -> None:
    """Raises ConfigError unless SEA reports a result of this name.

    Tune itself would wait for it until the run ends otherwise.
    """
    if key not in RESULT_KEYS:
        raise ConfigError(
            f"{where}: results have no key {key!r}{nearest(str(key), RESULT_KEYS)}; "
            "docs/metrics.md names all"
        )
