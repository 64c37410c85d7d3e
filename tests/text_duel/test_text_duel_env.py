"""The environments: Gymnasium's checkers, vector beside single, and exact counting."""

import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import text_duel
from text_duel import PASS, ConfigError, OracleError

ID = "text_duel/TLDR-v0"
SHORT, LONG = "One two.", "One two three four five six."


def make(**config) -> gym.Env:
    return gym.make(ID, **{"oracle": "length", "limit": 8, **config}).unwrapped


def make_vec(num_envs: int, **config) -> gym.vector.VectorEnv:
    return gym.make_vec(ID, num_envs=num_envs, **{"oracle": "length", "limit": 8, **config})


@pytest.mark.parametrize("oracle", ["length", "embedding", "own_oracles:Alphabetical"])
@pytest.mark.parametrize("labels", ["deterministic", "bradley_terry"])
def test_single_environment_passes_gymnasiums_checker(oracle: str, labels: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gym.make(ID, oracle=oracle, labels=labels, flip_noise=0.1).unwrapped)


def test_spaces_and_observations_of_both_forms() -> None:
    env, vec = make(), make_vec(3)
    assert vec.single_observation_space == env.observation_space
    assert vec.single_action_space == env.action_space
    observation, info = env.reset(seed=0)
    assert observation in env.observation_space
    assert info == {"prompt_id": env.prompts[[p.text for p in env.prompts].index(observation)].id}
    observations, _ = vec.reset(seed=0)
    assert observations in vec.observation_space
    actions = vec.action_space.sample()
    assert actions in vec.action_space
    observations, rewards, terminations, truncations, infos = vec.step(actions)
    assert observations in vec.observation_space
    assert rewards.shape == (3,)
    assert rewards.dtype == np.float64
    assert terminations.tolist() == [True] * 3
    assert truncations.tolist() == [False] * 3
    for key in ("prompt_id", "asked", "first_wins", "win_probability", "first_score"):
        assert infos[key].shape == infos[f"_{key}"].shape == (3,)


@pytest.mark.parametrize("labels", ["deterministic", "bradley_terry"])
def test_vector_environment_equals_single_ones(labels: str) -> None:
    """Sub-environment i with seed s + i is the single environment with that seed."""
    config = {"labels": labels, "flip_noise": 0.3}
    vec = make_vec(6, **config)
    firsts = [SHORT, LONG, "", "a b c", *PASS[:1], SHORT]
    seconds = [LONG, SHORT, "x", "a b c d", *PASS[1:], LONG]
    for seed in range(20):
        shown, _ = vec.reset(seed=seed)
        _, rewards, _, _, infos = vec.step((firsts, seconds))
        for i in range(6):
            env = make(**config)
            assert env.reset(seed=seed + i)[0] == shown[i]
            _, reward, _, _, info = env.step((firsts[i], seconds[i]))
            assert reward == rewards[i]
            known = {k for k in infos if not k.startswith("_") and infos[f"_{k}"][i]}
            assert info == {key: infos[key][i] for key in known}


def test_vector_environment_equals_gymnasiums_own_vectorisation() -> None:
    ours = make_vec(3, labels="bradley_terry")
    theirs = gym.make_vec(
        ID, 3, vectorization_mode="sync", oracle="length", limit=8, labels="bradley_terry"
    )
    actions = ((SHORT, LONG, "a"), (LONG, SHORT, "b c"))
    for seed in range(10):
        assert ours.reset(seed=seed)[0] == theirs.reset(seed=seed)[0]
        (_, rewards, _, _, infos), (_, others, _, _, other_infos) = (
            ours.step(actions),
            theirs.step(actions),
        )
        assert rewards.tolist() == others.tolist()
        assert infos.keys() == other_infos.keys()
        for key in infos:
            np.testing.assert_array_equal(infos[key], other_infos[key])


def test_labels_do_not_depend_on_the_batch() -> None:
    alone = make_vec(1, labels="bradley_terry")
    together = make_vec(4, labels="bradley_terry")
    seeds = [7, 100, 3, 9]
    together.reset(seed=seeds, options={"prompt_indices": [0, 1, 2, 3]})
    firsts, seconds = [SHORT, LONG, SHORT, LONG], [LONG, SHORT, "a b", "a b"]
    _, rewards, _, _, _ = together.step((firsts, seconds))
    for i in range(4):
        alone.reset(seed=[seeds[i]], options={"prompt_indices": [i]})
        assert alone.step(([firsts[i]], [seconds[i]]))[1][0] == rewards[i]


def test_the_same_seed_gives_the_same_episode_and_others_differ() -> None:
    env = make(labels="bradley_terry", limit=300)

    def episodes(seed: int) -> list[tuple[str, float]]:
        shown = [env.reset(seed=seed)[0]]
        rewards = [env.step(("a", "b c"))[1]]
        for _ in range(9):
            shown.append(env.reset()[0])
            rewards.append(env.step(("a", "b c"))[1])
        return list(zip(shown, rewards, strict=True))

    assert episodes(1) == episodes(1)
    assert episodes(1) != episodes(2)


def test_pass_asks_nothing_and_counts_nothing() -> None:
    env = make(oracle="own_oracles:Unreliable")
    _, shown = env.reset(seed=0)
    _, reward, terminated, _, info = env.step(PASS)
    assert (reward, terminated) == (0.0, True)
    assert info == {"prompt_id": shown["prompt_id"], "asked": False}
    assert (env.num_oracle_queries, env.oracle.calls) == (0, 0)


def test_a_vector_step_of_passes_asks_nothing() -> None:
    vec = make_vec(2, oracle="own_oracles:Unreliable")
    vec.reset(seed=0)
    _, rewards, _, _, infos = vec.step((("", ""), ("", "")))
    assert rewards.tolist() == [0.0, 0.0]
    assert not infos["asked"].any()
    assert not infos["_first_wins"].any()
    assert np.isnan(infos["win_probability"]).all()
    assert (vec.num_oracle_queries, vec.oracle.calls) == (0, 0)


def test_every_answered_question_is_counted_once_and_asked_in_one_batch() -> None:
    vec = make_vec(4, oracle="own_oracles:Unreliable")
    for step, (passes, total) in enumerate([(0, 4), (3, 5), (4, 5), (1, 8)]):
        vec.reset(seed=step)
        _, _, _, _, infos = vec.step(
            (["a"] * (4 - passes) + [""] * passes, ["bb"] * (4 - passes) + [""] * passes)
        )
        assert infos["asked"].sum() == 4 - passes
        assert vec.num_oracle_queries == total
    assert vec.oracle.calls == 3  # scores and preference come from one pass over the responses


def test_info_has_probability_and_scores_of_the_oracle() -> None:
    env = make(oracle_config={"target": 2})
    env.reset(seed=0)
    info = env.step(("one two", "one two three"))[4]
    assert info["win_probability"] == pytest.approx(1 / (1 + np.exp(-1.0)))
    assert (info["first_score"], info["second_score"]) == (0.0, -1.0)
    assert info["first_wins"] is True


def test_an_oracle_without_scores_gives_none() -> None:
    vec = make_vec(2, oracle="own_oracles:Alphabetical")
    vec.reset(seed=0)
    infos = vec.step((("a", "d"), ("b", "c")))[4]
    assert infos["win_probability"].tolist() == pytest.approx([0.8, 0.2])
    assert infos["first_wins"].tolist() == [True, False]
    assert np.isnan(infos["first_score"]).all()
    assert not infos["_first_score"].any()


def test_identical_responses_are_refused_before_anything_is_asked() -> None:
    vec = make_vec(3, oracle="own_oracles:Unreliable")
    _, shown = vec.reset(seed=0)
    with pytest.raises(ValueError, match=f"identical responses to prompt '{shown['prompt_id'][1]}"):
        vec.step((("a", "same", "c"), ("b", "same", "d")))
    assert (vec.num_oracle_queries, vec.oracle.calls) == (0, 0)
    env = make()
    env.reset(seed=0)
    with pytest.raises(ValueError, match="identical"):
        env.step((SHORT, SHORT))


def test_an_oracle_that_fails_is_named_not_counted_and_can_be_asked_again() -> None:
    config = {"oracle": "own_oracles:Unreliable", "labels": "bradley_terry"}
    broken, sound = make_vec(3, **config), make_vec(3, **config)
    actions = (("a", "bb", "c"), ("bb", "a", "dd"))
    broken.reset(seed=5)
    broken.oracle.works = False
    with pytest.raises(OracleError) as caught:
        broken.step(actions)
    assert str(caught.value) == (
        "oracle unreliable could not answer 3 questions: TimeoutError: no answer after 3 tries"
    )
    assert broken.num_oracle_queries == 0
    broken.oracle.works = True
    sound.reset(seed=5)
    assert broken.step(actions)[1].tolist() == sound.step(actions)[1].tolist()
    assert broken.num_oracle_queries == 3


@pytest.mark.parametrize(
    ("p", "message"),
    [
        (float("nan"), "answered nan for prompt 'tldr-mini-0000': there is no label"),
        (1.5, "answered 1.5 for prompt 'tldr-mini-0000', expected a probability"),
        ([[0.5]], r"shape \(1, 1\), expected \(1,\)"),
    ],
)
def test_an_answer_that_is_no_probability_is_an_error(p, message: str) -> None:
    env = make(oracle="own_oracles:Constant", oracle_config={"p": 0.5})
    env.oracle.compare = lambda prompts, first, second: np.array(p if np.ndim(p) else [p])
    env.reset(seed=0, options={"prompt_index": 0})
    with pytest.raises(OracleError, match=message):
        env.step(("a", "b"))
    assert env.num_oracle_queries == 0


def test_scores_that_are_no_numbers_are_an_error() -> None:
    env = make(oracle="own_oracles:HalfFailing")
    env.reset(seed=0, options={"prompt_index": 3})
    with pytest.raises(
        OracleError, match=r"prompt 'tldr-mini-0003' \(scores nan and nan\): there is no label"
    ):
        env.step(("a", "b"))
    assert env.num_oracle_queries == 0


def test_prompts_are_picked_by_index_or_drawn() -> None:
    env, vec = make(), make_vec(2)
    assert env.reset(options={"prompt_index": 5})[0] == env.prompts[5].text
    assert vec.reset(options={"prompt_indices": [7, 0]})[1]["prompt_id"].tolist() == [
        "tldr-mini-0007",
        "tldr-mini-0000",
    ]
    assert {env.reset(seed=s)[1]["prompt_id"] for s in range(200)} == {p.id for p in env.prompts}
    for index in (8, -1):
        with pytest.raises(IndexError, match=rf"prompt_index {index} is outside \[0, 8\)"):
            env.reset(options={"prompt_index": index})


def test_wrong_calls_are_refused() -> None:
    env, vec = make(), make_vec(2)
    for one in (env, vec):
        with pytest.raises(RuntimeError, match="reset"):
            one.step(("a", "b"))
    env.reset(seed=0)
    env.step(("a", "b"))
    with pytest.raises(RuntimeError, match="one step"):
        env.step(("a", "b"))
    with pytest.raises(ValueError, match="3 seeds for 2"):
        vec.reset(seed=[1, 2, 3])
    with pytest.raises(ValueError, match="1 prompt_indices for 2"):
        vec.reset(options={"prompt_indices": [1]})
    with pytest.raises(ValueError, match="reset together"):
        vec.reset(options={"reset_mask": np.array([True, False])})
    vec.reset(options={"reset_mask": np.array([True, True])})
    with pytest.raises(ValueError, match="shorter"):
        vec.step((("a",), ("b",)))


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ConfigError, match="num_envs: 0 is not a whole number of at least 1"):
        make_vec(0)
    with pytest.raises(ConfigError, match=r"unknown key 'orcale' \(did you mean 'oracle'\?\)"):
        text_duel.TextDuelEnv(orcale="length")
    with pytest.raises(ConfigError, match="render_mode: 'ansi' is not None"):
        text_duel.TextDuelEnv(render_mode="ansi", oracle="length")
