"""No text is both trained on and held out, and rows that are added move no other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import pytest

from rllib_sea.policy.prompt_identity import is_in_share
from rllib_sea.policy.prompt_split import PromptSplit, read_prompts
from text_duel import ConfigError, Prompt

POSTS = [f"post {i}" for i in range(100)]


def write(file: Path, posts: Sequence[str], **columns: Sequence[Any]) -> Path:
    rows = [
        {"post": post} | {name: values[i] for name, values in columns.items()}
        for i, post in enumerate(posts)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def read(
    source: Path,
    *,
    split: str | None = None,
    share: float | None = None,
    num_held_out: int | None = None,
    **env_config: Any,
) -> PromptSplit:
    config = {"prompts": str(source), "columns": {"reference": None}, "oracle": "length"}
    return read_prompts(config | env_config, split=split, share=share, num_held_out=num_held_out)


def posts(prompts: Sequence[Prompt]) -> list[str]:
    return [prompt.post for prompt in prompts]


def test_of_a_single_file_a_tenth_is_held_out_and_it_is_said(tmp_path: Path) -> None:
    file = write(tmp_path / "mine.jsonl", POSTS)
    found = read(file)
    assert sorted(posts(found.training) + posts(found.held_out)) == sorted(POSTS)
    assert all(is_in_share(prompt.text, 0.1) for prompt in found.held_out)
    num = len(found.held_out)
    assert 0 < num < 30
    assert found.notes == (
        f"prompts: {num} of the 100 of {file} are held out, the others trained on (it has one "
        "split only, and nothing was said; held_out_share: 0.1)",
    )
    few = read(file, num_held_out=2)
    assert posts(few.held_out) == posts(found.held_out)[:2]
    assert posts(few.training) == posts(found.training), "what is not evaluated is not trained on"
    assert f"{num} of the 100 of {file} are held out, 2 evaluated on" in few.notes[0]


def test_ids_make_no_difference(tmp_path: Path) -> None:
    plain = read(write(tmp_path / "a.jsonl", POSTS))
    named = read(write(tmp_path / "b.jsonl", POSTS, id=[f"n{i}" for i in range(100)]))
    assert posts(named.held_out) == posts(plain.held_out)


def test_rows_that_are_added_or_moved_move_no_other_to_the_other_side(tmp_path: Path) -> None:
    before = read(write(tmp_path / "a.jsonl", POSTS), share=0.2)
    more = [*(f"new {i}" for i in range(50)), *reversed(POSTS)]
    after = read(write(tmp_path / "a.jsonl", more), share=0.2)
    assert set(posts(before.held_out)) == set(posts(after.held_out)) & set(POSTS)
    assert set(posts(before.training)) == set(posts(after.training)) & set(POSTS)


def test_a_folder_of_one_split_is_as_one_file_and_of_several_has_a_test_split(
    tmp_path: Path,
) -> None:
    write(tmp_path / "train.jsonl", POSTS)
    alone = read(tmp_path)
    assert 0 < len(alone.held_out) < 30
    write(tmp_path / "test.jsonl", ["x", "y"])
    both = read(tmp_path)
    assert (posts(both.held_out), len(both.training), both.notes) == (["x", "y"], 100, ())
    assert posts(read(tmp_path, share=0.1).held_out) == posts(alone.held_out)


def test_what_is_held_out_is_not_trained_on_and_it_is_said(tmp_path: Path) -> None:
    """Prompts are compared by their texts: an id that both splits have is no matter."""
    write(tmp_path / "train.jsonl", ["a", "b", "c", "d"], id=[1, 2, 3, 4])
    write(tmp_path / "test.jsonl", ["d", "x", "b"], id=[1, 2, 3])
    found = read(tmp_path)
    assert posts(found.training) == ["a", "c"]
    assert posts(found.held_out) == ["d", "x", "b"]
    assert found.notes == (
        f"prompts: 2 of the 4 training prompts of {tmp_path} are not trained on: their texts are "
        "held out, too",
    )


def test_what_is_held_out_may_stand_in_a_file_of_its_own(tmp_path: Path) -> None:
    training = write(tmp_path / "mine.jsonl", ["a", "b", "c"])
    other = write(tmp_path / "other.jsonl", ["x", "b", "y"])
    found = read(training, evaluation_prompts=str(other))
    assert (posts(found.training), posts(found.held_out)) == (["a", "c"], ["x", "b", "y"])
    assert found.notes == (
        f"prompts: 1 of the 3 training prompts of {training} are not trained on: their texts are "
        "held out, too",
    )
    few = read(training, evaluation_prompts=str(other), num_held_out=1)
    assert (posts(few.training), posts(few.held_out)) == (["a", "b", "c"], ["x"])
    (tmp_path / "folder").mkdir()
    write(tmp_path / "folder" / "dev.jsonl", ["z"])
    folder = str(tmp_path / "folder")
    assert posts(read(training, evaluation_prompts=folder, split="dev").held_out) == ["z"]
    for settings, message in (
        ({"evaluation_prompts": folder}, f"only dev .*of evaluation_prompts: '{folder}'"),
        ({"evaluation_prompts": str(other), "share": 0.1}, "^evaluation_prompts, held_out_share: "),
        ({"evaluation_prompts": 3}, "^evaluation_prompts: 3 is not text"),
        ({"evaluation_prompts": str(training)}, "^evaluation_prompts: all 3 training prompts of "),
    ):
        with pytest.raises(ConfigError, match=message):
            read(training, **settings)  # type: ignore[arg-type]


def test_a_data_set_of_the_hub_with_one_split_is_as_one_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = datasets.Dataset.from_list([{"post": post} for post in POSTS])
    splits = ["train"]
    monkeypatch.setattr(datasets, "get_dataset_split_names", lambda name, config: splits)
    monkeypatch.setattr(datasets, "load_dataset", lambda name, config, split: rows)
    found = read(Path("owner/name"))
    assert 0 < len(found.held_out) < 30
    assert "(it has one split only, and nothing was said; held_out_share: 0.1)" in found.notes[0]
    with pytest.raises(ConfigError, match="'owner/name' has one split only"):
        read(Path("owner/name"), split="test")
    splits.append("test")
    with pytest.raises(ConfigError, match="all 100 training prompts"):
        read(Path("owner/name"))


def test_what_of_messages_is_not_read_is_said(tmp_path: Path) -> None:
    talk = [{"role": "user", "content": "Hi", "name": "me", "weight": 0, "audio": None}]
    file = write(tmp_path / "a.jsonl", ["a", talk, "b"])  # type: ignore[list-item]
    assert (
        f"prompts: 1 of the 3 of {file} have messages with more than role and content, which is "
        "not read: name, weight"
    ) in read(file, share=0.5).notes


def test_duplicates_are_kept_and_said_if_they_are_many(tmp_path: Path) -> None:
    write(tmp_path / "test.jsonl", ["x"])
    write(tmp_path / "train.jsonl", [*POSTS, POSTS[0]])
    assert read(tmp_path).notes == ()
    write(tmp_path / "train.jsonl", [*POSTS, POSTS[0], POSTS[0]])
    found = read(tmp_path)
    assert len(found.training) == 102
    assert "prompts: 2 of the 102 training prompts" in found.notes[0]


@pytest.mark.parametrize(
    ("files", "settings", "message"),
    [
        (
            {"train": ["a"]},
            {"split": "test"},
            "has one split only, which is trained on: hold out a share of it",
        ),
        (
            {"train": ["a"], "test": ["b"]},
            {"split": "test", "share": 0.1},
            "evaluation_split, held_out_share: 'test' and 0.1 both say what is held out",
        ),
        (
            {"train": ["a"], "test": ["b"]},
            {"split": "train"},
            "evaluation_split: 'train' is the split that is trained on",
        ),
        (
            {"train": ["a", "b"], "test": ["b", "a"]},
            {},
            "evaluation_split: all 2 training prompts of ",
        ),
        (
            {"train": ["a"], "valid": ["b"]},
            {},
            "(of the held-out prompts: evaluation_split is 'test' unless it is set; "
            "held_out_share: 0.1 holds out a tenth of the training prompts instead)",
        ),
        ({"train": ["abc"]}, {}, "by their texts, is none of them: set a larger share"),
        ({"train": ["abc"]}, {"share": 1.0}, "by their texts, is all of them: set a smaller share"),
    ],
)
def test_what_leaves_nothing_is_one_line(
    tmp_path: Path, files: dict[str, list[str]], settings: dict[str, Any], message: str
) -> None:
    for name, rows in files.items():
        write(tmp_path / f"{name}.jsonl", rows)
    with pytest.raises(ConfigError) as wrong:
        read(tmp_path, template="{post}", **settings)
    assert message in str(wrong.value)
    assert "\n" not in str(wrong.value)
