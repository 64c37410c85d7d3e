"""What is loaded never runs code: pickles, a model's own classes and YAML tags are refused.

Each trap makes a folder when it is sprung.
"""

from __future__ import annotations

import ast
import fnmatch
import json
import os
import pickle
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rllib_sea.cli.yaml_files import parse_option, read_yaml
from rllib_sea.policy import models
from rllib_sea.policy.models import check_model, resolve_model
from rllib_sea.policy.tokenization import PromptTokenizer
from rllib_sea.policy.transformers_sampler import TransformersSampler
from rllib_sea.policy_update.config import PolicyTrainConfig
from rllib_sea.policy_update.learner import PolicyLearner
from rllib_sea.policy_update.sharding.ddp import OPTIMIZER_FILE
from rllib_sea.preference_log.importing import read_preferences
from rllib_sea.preference_log.log import PreferenceReader
from rllib_sea.preference_log.records import PreferenceLogError
from rllib_sea.reward_model.encoder import MeanPoolingEncoder, check_encoder
from rllib_sea.reward_model.policy_encoder import PolicyEncoder
from text_duel import ConfigError, RewardModelOracle, load_prompts

ROOT = Path(__file__).resolve().parent.parent

CHECKS: dict[str, Callable[[Path], Any]] = {
    "policy": lambda folder: check_model(str(folder)),
    "encoder": lambda folder: check_encoder(str(folder)),
    "oracle": lambda folder: RewardModelOracle.check_config(model=str(folder)),
}
LOADERS: dict[str, Callable[[Path], Any]] = {
    "sampler": TransformersSampler,
    "policy encoder": PolicyEncoder,
    "encoder": MeanPoolingEncoder,
    "learner": lambda folder: PolicyLearner(PolicyTrainConfig(model_path=str(folder))),
}


class _Trap:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self._folder),)


@pytest.fixture
def sprung(tmp_path: Path) -> Path:
    """What is there once a trap was sprung."""
    return tmp_path / "sprung"


@pytest.fixture
def pickled(sprung: Path) -> bytes:
    """A pickle that springs when it is read."""
    trap = pickle.dumps(_Trap(sprung))
    pickle.loads(trap)
    sprung.rmdir()
    return trap


@pytest.fixture
def model(tiny_policy: Path, tmp_path: Path) -> Path:
    """A model's folder, to be changed."""
    return shutil.copytree(tiny_policy, tmp_path / "model")


@pytest.fixture
def pickled_model(model: Path, pickled: bytes) -> Path:
    (model / "model.safetensors").unlink()
    (model / "pytorch_model.bin").write_bytes(pickled)
    return model


def change(file: Path, **entries: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | entries))


@pytest.mark.parametrize("check", CHECKS)
def test_weights_in_a_pickle_are_refused(check: str, pickled_model: Path, sprung: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"has no model\.safetensors .*, only pytorch_model\.bin"
    ) as e:
        CHECKS[check](pickled_model)
    assert "\n" not in str(e.value)
    assert "model: the folder" in str(e.value)
    assert not sprung.exists()


@pytest.mark.parametrize("loader", LOADERS)
def test_no_loader_reads_weights_in_a_pickle(
    loader: str, pickled_model: Path, sprung: Path
) -> None:
    with pytest.raises((OSError, ConfigError), match=r"no file named model\.safetensors"):
        LOADERS[loader](pickled_model)
    assert not sprung.exists()


def test_neither_pickles_nor_code_come_from_the_hub(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted: list[str] = []

    def download(name: str, allow_patterns: list[str]) -> str:
        wanted.extend(allow_patterns)
        return str(model)

    monkeypatch.setattr(models, "check_model", lambda name: None)
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert resolve_model("owner/name") == model
    for file in ("pytorch_model.bin", "model.pt", "optimizer.pkl", "modeling_mine.py"):
        assert not any(fnmatch.fnmatch(file, pattern) for pattern in wanted), file
    (model / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"model: owner/name: .* has no model\.safetensors"):
        resolve_model("owner/name")


@pytest.fixture
def code_in_model(model: Path, sprung: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (model / "mine.py").write_text(
        f"import os\nos.mkdir({str(sprung)!r})\n"
        "from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast\n"
    )
    # Where nobody said no before, Transformers asks on the terminal.
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    return model


@pytest.mark.parametrize("check", CHECKS)
def test_a_model_of_its_own_class_is_refused(check: str, code_in_model: Path, sprung: Path) -> None:
    names = {"AutoConfig": "mine.LlamaConfig", "AutoModelForCausalLM": "mine.LlamaForCausalLM"}
    change(code_in_model / "config.json", model_type="mine", auto_map=names)
    with pytest.raises(ConfigError, match=r"code of its own \(auto_map in config\.json\)") as e:
        CHECKS[check](code_in_model)
    assert "\n" not in str(e.value)
    assert not sprung.exists()


@pytest.mark.parametrize("loader", [*LOADERS, "tokenizer"])
def test_no_loader_runs_a_model_s_own_class(loader: str, code_in_model: Path, sprung: Path) -> None:
    """Transformers has a class for this one, too: that one is taken."""
    names = {"AutoModel": "mine.LlamaForCausalLM", "AutoModelForCausalLM": "mine.LlamaForCausalLM"}
    change(code_in_model / "config.json", auto_map=names)
    (LOADERS | {"tokenizer": PromptTokenizer})[loader](code_in_model)
    assert not sprung.exists()


@pytest.mark.parametrize(
    "load",
    [PromptTokenizer, MeanPoolingEncoder, lambda f: RewardModelOracle.check_config(model=str(f))],
)
def test_a_tokenizer_of_its_own_class_is_refused(
    load: Callable[[Path], Any], code_in_model: Path, sprung: Path
) -> None:
    change(
        code_in_model / "tokenizer_config.json",
        tokenizer_class="Mine",
        auto_map={"AutoTokenizer": [None, "mine.PreTrainedTokenizerFast"]},
    )
    with pytest.raises(ConfigError, match=r"\(auto_map in tokenizer_config\.json\)"):
        load(code_in_model)
    assert not sprung.exists()


def test_an_optimizer_that_is_a_trap_is_refused(
    tiny_policy: Path, pickled: bytes, tmp_path: Path, sprung: Path
) -> None:
    learner = PolicyLearner(PolicyTrainConfig(model_path=str(tiny_policy)))
    learner.save(tmp_path / "policy")
    learner.load(tmp_path / "policy")
    (tmp_path / "policy" / OPTIMIZER_FILE).write_bytes(pickled)
    warnings.simplefilter("ignore")  # of the pickle's protocol
    with pytest.raises(pickle.UnpicklingError):
        learner.load(tmp_path / "policy")
    assert not sprung.exists()


def test_yaml_runs_nothing(tmp_path: Path, sprung: Path) -> None:
    text = f"a: !!python/object/apply:os.mkdir ['{sprung}']\n"
    (tmp_path / "recipe.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"recipe\.yaml:1: not valid YAML: .*os\.mkdir"):
        read_yaml(tmp_path / "recipe.yaml")
    with pytest.raises(ConfigError, match="--config:1: not valid YAML"):
        parse_option("--config", text)
    assert not sprung.exists()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("posts.pkl", r"posts\.pkl is no file that ends in \.jsonl"),
        ("posts.jsonl", r"posts\.jsonl:1: not valid JSON"),
    ],
)
def test_prompts_are_never_unpickled(
    name: str, expected: str, pickled: bytes, tmp_path: Path, sprung: Path
) -> None:
    (tmp_path / name).write_bytes(pickled)
    with pytest.raises(ConfigError, match=expected):
        load_prompts(str(tmp_path / name))
    assert not sprung.exists()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("labels.pkl", r"is no file that ends in \.jsonl, .* or \.parquet"),
        ("labels.jsonl", "not valid JSON"),
        ("labels.parquet", "not valid Parquet"),
    ],
)
def test_preferences_are_never_unpickled(
    name: str, expected: str, pickled: bytes, tmp_path: Path, sprung: Path
) -> None:
    (tmp_path / name).write_bytes(pickled)
    with pytest.raises(ConfigError, match=expected):
        read_preferences(tmp_path / name)
    with pytest.raises(PreferenceLogError, match="no SQLite file"):
        PreferenceReader(tmp_path / name)
    assert not sprung.exists()


def _calls() -> Iterator[tuple[str, str, ast.Call]]:
    """Every call in the two packages: where it is, what is called as written, the call."""
    for folder in ("rllib_sea", "envs"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call):
                    where = f"{path.relative_to(ROOT)}:{node.lineno}"
                    yield where, ast.unparse(node.func), node


def test_every_load_says_that_it_is_safe() -> None:
    """A load that is added without it fails here."""
    found = []
    for where, function, call in _calls():
        given = {ast.unparse(key) for key in call.keywords}
        name = function.rsplit(".", 1)[-1]
        if name == "from_pretrained":
            if "GenerationConfig" in function or "gguf_file=source.name" in given:
                continue  # JSON; the wheel that is pinned
            weights = "Model" in function
            assert "**SAFE_WEIGHTS" in given or ("**NO_CODE" in given and not weights), where
        elif name == "LLM":
            assert {"trust_remote_code=False", "load_format='dummy'"} <= given, where
        elif function == "torch.load":
            assert "weights_only=True" in given, where
        elif function == "yaml.load":
            assert "Loader=_Loader" in given, where
        else:
            unsafe = ("pickle", "joblib", "np.load", "numpy.load", "marshal", "shelve")
            loads = name.startswith(("load", "Unpickler"))
            assert not (loads and function.startswith(unsafe)), where
            assert name != "read_pickle", where
            assert function not in ("eval", "exec"), where
            continue
        found.append(name)
    assert {"from_pretrained", "LLM", "load"} <= set(found)
