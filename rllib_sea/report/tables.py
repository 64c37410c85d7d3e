"""What is shown of runs in numbers: results, labels, settings, machine, cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rllib_sea.preference_log.reader import PreferenceReader
from rllib_sea.preference_log.records import PreferenceLogError
from rllib_sea.preference_log.statistics import LogStatistics, log_statistics
from rllib_sea.report.charts import number_text
from rllib_sea.report.runs import Run, Setting, differing_keys, number, setting_text

# Name, key, and whether it is of an evaluation: the newest one counts.
RESULTS = (
    ("queries", "num_oracle_queries"),
    ("win rate vs initial", "evaluation/win_rate_vs_initial"),
    ("soft", "evaluation/win_rate_vs_initial_soft"),
    ("soft, sampled", "evaluation/sampled_win_rate_vs_initial_soft"),
    ("win rate vs reference", "evaluation/win_rate_vs_reference"),
    ("soft vs reference", "evaluation/win_rate_vs_reference_soft"),
    ("mean score", "evaluation/mean_score"),
    ("initial mean score", "evaluation/initial_mean_score"),
    ("KL", "evaluation/kl"),
    ("finished share", "evaluation/finished_share"),
    ("response length", "evaluation/response_length"),
    ("repeated share", "evaluation/repeated_share"),
    ("copied share", "evaluation/copied_share"),
    ("perplexity of references", "evaluation/reference_perplexity"),
    ("initial finished share", "evaluation/initial_finished_share"),
    ("initial repeated share", "evaluation/initial_repeated_share"),
    ("initial copied share", "evaluation/initial_copied_share"),
    ("initial perplexity of references", "evaluation/initial_reference_perplexity"),
    ("rounds", "round"),
    ("policy steps", "policy_steps"),
)
EVALUATION_COLUMNS = tuple(
    (name, key)
    for name, key in RESULTS
    if key.startswith("evaluation/") and not key.startswith("evaluation/initial_")
)
ROUND_COLUMNS = (
    ("queries", "num_oracle_queries"),
    ("ensemble's labels", "num_synthetic_pairs"),
    ("accuracy on fresh labels", "reward_model/accuracy_on_new_labels"),
    ("calibration error", "reward_model/calibration_error"),
    ("disagreement", "reward_model/member_disagreement"),
    ("same favourite", "reward_model/argmax_agreement"),
    ("policy loss", "policy/loss"),
    ("seconds", "seconds/round"),
)
# Stages of a round that lie side by side; parts of a stage are left out.
STAGES = (
    ("sampling", "seconds/propose"),
    ("selection", "seconds/select"),
    ("labelling", "seconds/label"),
    ("reward model", "seconds/erm"),
    ("policy", "seconds/policy"),
    ("measuring", "seconds/measure"),
    ("evaluation", "evaluation/seconds"),
    ("rehearsal", "seconds/rehearsal"),
    ("initial preferences", "seconds/initial_preferences"),
)
# Evaluations are in their round's seconds; the rehearsal came before the first.
_WHOLE = ("seconds/round", "seconds/rehearsal")
# The least share of the time that has a colour.
_SEEN = 0.005


@dataclass(frozen=True)
class Share:
    """A part of a whole: a name, how much, and the share of the whole in [0, 1]."""

    name: str
    value: float
    share: float


@dataclass(frozen=True)
class LabelUse:
    """What was asked of whom.

    Attributes:
        statistics: Of the preference log; None if it cannot be read.
        error: Why not.
        answers: What became of the questions.
        own_labels: Labels that the ensemble gave itself.
        started_from: Runs whose labels are in the log, too.
    """

    statistics: LogStatistics | None
    error: str
    answers: list[Share]
    own_labels: float | None
    started_from: list[str]


@dataclass(frozen=True)
class Cost:
    """What a run cost.

    Attributes:
        seconds: In all rounds.
        stages: By stage; the rest is what no stage counts, and stages too short to be seen.
        most_memory: The largest share of the machine's memory in use at a round's end, by all
            programs; None if unknown.
    """

    seconds: float
    stages: list[Share]
    most_memory: float | None


@dataclass(frozen=True)
class SettingRow:
    """A key, its default, and its value in each run."""

    key: str
    default: str
    values: list[str]


def estimate(row: Mapping[str, Any], key: str) -> str:
    """A metric with its interval; empty if it was not measured."""
    value, low, high = (number(row, f"{key}{end}") for end in ("", "_low", "_high"))
    if value is None:
        return ""
    interval = "" if low is None or high is None else f" [{low:.3f}, {high:.3f}]"
    return number_text(value) if not interval else f"{value:.3f}{interval}"


def end_results(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    """Each of :data:`RESULTS` that a run has: its name, and its text in each run."""
    rows = []
    for name, key in RESULTS:
        texts = []
        for run in runs:
            of = run.last
            if key.startswith("evaluation/"):
                of = run.evaluations[-1] if run.evaluations else {}
            texts.append(estimate(of, key))
        if any(texts):
            rows.append((name, texts))
    return rows


def table_of(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[tuple[str, str]]
) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of a table, each begun by its round; columns without a value are left out."""
    measured = [(name, key) for name, key in columns if any(estimate(row, key) for row in rows)]
    body = [[estimate(row, "round"), *(estimate(row, key) for _, key in measured)] for row in rows]
    return ["round", *(name for name, _ in measured)], body


def label_use(run: Run) -> LabelUse:
    """What the preference log counts."""
    own = number(run.last, "num_synthetic_pairs")
    try:
        with PreferenceReader(run.log) as log:
            found, others = log_statistics(log), [other.run_id for other in log.runs()[1:]]
    except PreferenceLogError as error:
        return LabelUse(None, str(error), [], own, [])
    counts = found.choices | {"open": found.num_open, "withdrawn": found.num_withdrawn}
    names = {"first": "first preferred", "second": "second preferred", "both_bad": "both bad"}
    return LabelUse(
        found, "", _shares({names.get(name, name): n for name, n in counts.items()}), own, others
    )


def label_table(runs: Sequence[Run], uses: Sequence[LabelUse]) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of a table of the label use of several runs; a log that cannot be read is "?".

    Args:
        runs: The runs.
        uses: One each.
    """
    heads = ["run", "questions", "answered", "open", "withdrawn", "skipped", "ties", "late"]
    rows = []
    for run, use in zip(runs, uses, strict=True):
        counts, asked = ["?"] * (len(heads) - 1), "?"
        if use.statistics is not None:
            found = use.statistics
            skipped = found.choices["skip"] + found.choices["both_bad"]
            counts = [
                str(count)
                for count in (
                    found.num_questions,
                    found.num_answered,
                    found.num_open,
                    found.num_withdrawn,
                    skipped,
                    found.choices["tie"],
                    found.num_late,
                )
            ]
            asked = ", ".join(found.oracles)
        own = "" if use.own_labels is None else number_text(use.own_labels)
        rows.append([run.name, *counts, own, asked])
    return [*heads, "ensemble's labels", "oracle"], rows


def cost(run: Run) -> Cost:
    """Seconds by stage, summed over rounds."""
    total = sum(number(row, key) or 0.0 for row in run.rounds for key in _WHOLE)
    stages = {name: sum(number(row, key) or 0.0 for row in run.rounds) for name, key in STAGES}
    stages = {name: seconds for name, seconds in stages.items() if seconds >= _SEEN * total}
    memory = [number(row, "perf/ram_util_percent") for row in run.rounds]
    known = [share / 100 for share in memory if share is not None]
    stages["other"] = max(0.0, total - sum(stages.values()))
    return Cost(total, _shares(stages), max(known, default=None))


def _shares(values: Mapping[str, float]) -> list[Share]:
    total = sum(values.values())
    return [Share(name, value, value / total) for name, value in values.items() if value > 0]


def settings_table(runs: Sequence[Run]) -> list[tuple[str, list[SettingRow]]]:
    """The settings, what matters first: titles with keys.

    Those that differ between the runs, those that differ from the defaults, the others.
    """
    keys = dict.fromkeys(key for run in runs for key in run.settings)
    between = differing_keys(runs)
    changed = [
        key
        for key in keys
        if key not in between
        and any(not run.settings[key].is_default for run in runs if key in run.settings)
    ]
    rest = [key for key in keys if key not in between and key not in changed]
    groups = (
        ("Different between the runs", between),
        ("Different from the defaults", changed),
        ("As by default", rest),
    )
    return [(title, [_setting_row(runs, key) for key in found]) for title, found in groups if found]


def _setting_row(runs: Sequence[Run], key: str) -> SettingRow:
    settings = [run.settings.get(key) for run in runs]
    default = next((setting_text(s.default) for s in settings if s is not None), "")
    return SettingRow(key, default, ["" if s is None else _setting_value(s) for s in settings])


def _setting_value(setting: Setting) -> str:
    return setting_text(setting.value)


def machine_rows(run: Run) -> list[tuple[str, str]]:
    """Where a run was started last."""
    if not run.starts:
        return []
    start = run.starts[-1]
    machine = start["machine"]
    memory = f"{machine['memory_bytes'] / 2**30:.1f} GiB of memory"
    accelerators = ", ".join(machine["accelerators"])
    gpus = f"{machine['ray_gpus']:g}{f' ({accelerators})' if accelerators else ''}"
    return [
        ("started", ", ".join(row["started_at"] for row in run.starts)),
        ("host", f"{machine['host']}, {machine['system']}"),
        ("processor", f"{machine['processor']}, {machine['cores']} cores, {memory}"),
        ("Ray's CPUs and GPUs", f"{machine['ray_cpus']:g} and {gpus}"),
    ]


def version_rows(run: Run) -> list[tuple[str, str]]:
    """Packages and their versions; of several starts all that there were, in order."""
    names = dict.fromkeys(name for start in run.starts for name in start["versions"])
    return [
        (
            name,
            ", then ".join(dict.fromkeys(s["versions"].get(name, "none") for s in run.starts)),
        )
        for name in names
    ]


def messages(run: Run) -> list[tuple[str, str, str]]:
    """What the run said: the round, ``warning`` or ``note``, and the line."""
    return [
        (estimate(row, "round"), kind, line)
        for row in run.rounds
        for kind, key in (("warning", "warnings"), ("note", "notes"))
        for line in str(row.get(key) or "").split("\n")
        if line
    ]
