"""What the pages for new users tell them to write and to type, written and typed."""

from __future__ import annotations

import json
import re
import shlex
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray import tune

import rllib_sea.cli.rllib
import rllib_sea.cli.rllib_sea
from rllib_sea import SEAConfig
from text_duel import AsyncOracle, load_prompts, make_oracle

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
COMMANDS = {"rllib": rllib_sea.cli.rllib.main, "rllib-sea": rllib_sea.cli.rllib_sea.main}


@dataclass(frozen=True)
class Block:
    """A block of code of a page; with a title it is that file."""

    language: str
    title: str
    text: str


def blocks(page: str) -> list[Block]:
    text = (DOCS / f"{page}.md").read_text()
    found = re.findall(r"^```(\w*)(?: title=\"([^\"]+)\")?\n(.*?)^```$", text, re.M | re.S)
    assert len(found) * 2 == len(re.findall(r"^```", text, re.MULTILINE)), "a fence is not read"
    return [Block(*parts) for parts in found]


@pytest.fixture
def type_in(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[[str], str]:
    """Types a line where the page's files are: what it prints; `train` stops at its checks."""
    monkeypatch.chdir(tmp_path)

    def run(line: str) -> str:
        words = shlex.split(line)
        if words[0] == "PYTHONPATH=.":
            monkeypatch.syspath_prepend(tmp_path)
            words = words[1:]
        *words, mark, file = words if ">" in words else [*words, "", ""]
        if words[:3] == ["rllib", "train", "file"]:
            words = ["rllib-sea", "check", *words[3:]]
        monkeypatch.setattr("sys.argv", words)
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            COMMANDS[words[0]]()
        said = capsys.readouterr()
        assert not ended.value.code, f"{line}: {said.out}{said.err}"
        if mark:
            Path(file).write_text(said.out)
        return said.out

    return run


@pytest.fixture
def written(type_in: Callable[[str], str], tmp_path: Path) -> Callable[[str], dict[str, str]]:
    """Goes through a page: writes its files and types its lines; what each line printed."""

    def go(page: str) -> dict[str, str]:
        printed = {}
        for block in blocks(page):
            if block.title:
                (tmp_path / block.title).parent.mkdir(exist_ok=True)
                (tmp_path / block.title).write_text(block.text)
            elif block.language == "bash":
                for line in block.text.splitlines():
                    printed[line] = type_in(line)
            else:
                assert block.language == "python", f"{page}: a {block.language} block is not run"
        return printed

    return go


def rows(out: str) -> dict[str, str]:
    """The rows that `check` prints, by their names."""
    return {line[2:22].strip(): line[23:] for line in out.splitlines() if line.startswith("  ")}


def python_blocks(page: str) -> Iterator[str]:
    return (block.text for block in blocks(page) if block.language == "python" and not block.title)


def test_quick_start(written: Callable[[str], dict[str, str]], tmp_path: Path) -> None:
    printed = written("quick_start")
    assert "sea_tldr" in printed["rllib example list"]
    assert (tmp_path / "mine.yaml").read_text() == (
        ROOT / "tuned_examples/sea_tldr.yaml"
    ).read_text()
    assert rows(printed["rllib-sea check mine.yaml"])["oracle"] == "reader"


def test_quick_start_from_python(
    tiny_policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but training, which the tests of the loop have."""
    load, build, search = python_blocks("quick_start")
    (tmp_path / "policy").symlink_to(tiny_policy)
    made: dict[str, Any] = {}
    exec(load.replace("<checkpoint>", str(tmp_path)), made)
    assert made["policy"].num_parameters() > 0

    class Built:
        def train(self) -> dict[str, int]:
            return {"num_oracle_queries": 16}

    def build_algo(config: SEAConfig) -> Built:
        config.validate()
        assert config.query_budget == 256
        return Built()

    monkeypatch.setattr(SEAConfig, "build_algo", build_algo)
    exec(build, {})

    fitted: list[tune.Tuner] = []
    monkeypatch.setattr(tune.Tuner, "fit", lambda tuner: fitted.append(tuner))
    exec(search, {})
    assert len(fitted) == 1


def test_your_data(written: Callable[[str], dict[str, str]]) -> None:
    printed = written("your_data")
    chats = rows(printed["rllib-sea check chats.yaml"])
    assert chats["prompts"] == "4 of chats"
    assert chats["held-out prompts"].startswith("2, ")
    assert chats["prompt tokens"].endswith("with the chat template")
    posts = rows(printed["rllib-sea check posts.yaml"])
    held_out = int(posts["held-out prompts"].split(",")[0])
    assert (int(posts["prompts"].split()[0]) + held_out, held_out > 0) == (6, True)
    imported = next(out for line, out in printed.items() if " import " in line)
    assert "3 preferences of 3 prompts written to old.sqlite" in imported
    assert "not read: annotator" in imported
    stats = printed["rllib-sea preferences stats old.sqlite"]
    assert "first 2, second 0, tie 1" in stats  # the preferred one is the first
    assert "4 of chats" in printed["rllib-sea check from_old.yaml"]


@pytest.fixture
def judge_server() -> Iterator[str]:
    """A server that prefers the longer text, as the page's judge asks it."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            first, second = len(asked["first"]), len(asked["second"])
            choice = "tie" if first == second else "first" if first > second else "second"
            body = json.dumps({"choice": choice}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            """Says nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/judge"
    server.shutdown()
    thread.join()
    server.server_close()


def test_your_labeller(written: Callable[[str], dict[str, str]], judge_server: str) -> None:
    printed = written("your_labeller")
    assert rows(printed["PYTHONPATH=. rllib-sea check shorter.yaml"])["oracle"] == (
        "my_labeller:Shorter"
    )
    for text in python_blocks("your_labeller"):
        exec(text, {})  # check_oracle finds nothing
    prompts = load_prompts("tldr_mini", limit=3)
    shorter = make_oracle("my_labeller:Shorter")
    compared = shorter.compare(prompts, ["a", "a b", "a"], ["a b", "a", "b"])
    np.testing.assert_allclose(compared, [1 / (1 + np.exp(-1)), 1 / (1 + np.e), np.nan])
    judge = make_oracle("my_judge:Judge", {"url": judge_server})
    assert isinstance(judge, AsyncOracle)
    assert judge.compare(prompts, ["a", "ab", "a"], ["ab", "a", "b"]).tolist() == [0.0, 1.0, 0.5]


def test_choosing(written: Callable[[str], dict[str, str]]) -> None:
    out = written("choosing")["rllib-sea check replay.yaml"]
    assert "replay: SEA" in out
    assert "replay-active: SEA" in out


def test_gpus(written: Callable[[str], dict[str, str]]) -> None:
    takes = rows(written("gpus")["rllib-sea check gpu.yaml"])["takes"]
    assert takes.endswith(", 1 GPUs per trial")
