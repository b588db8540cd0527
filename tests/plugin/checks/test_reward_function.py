"""A reward function of the user's: the check before a launch says of each what verl's own call of it would show."""

import asyncio
import inspect

import numpy as np
import pytest
import torch
from verl import DataProto
from verl.trainer.ppo.reward import get_custom_reward_fn, load_reward_manager

from balanced_agg.arithmetic.tokenizer import build_tokenizer
from balanced_agg.commands import recipes
from balanced_agg.plugin.checks.reward_function import CALL_IT_SO, check_reward_function
from balanced_agg.plugin.checks.rewards import check_reward_options
from balanced_agg.plugin.launch import leave_out_grader_options
from balanced_agg.rewards import compute_score
from tests.composed import compose_recipe

FUNCTION = "reward.custom_reward_function"
PASSED = {"data_source": "mine", "solution_str": "#2", "ground_truth": "2", "extra_info": {}}
DOCUMENTED = "data_source, solution_str, ground_truth, extra_info=None"

# Source of a file -> overrides; all of these work.
WORK = {
    f"def compute_score({DOCUMENTED}): return 1.0": (),
    f"def mine({DOCUMENTED}): return 1.0": (f"{FUNCTION}.name=mine",),
    f"async def compute_score({DOCUMENTED}): return 1.0": (),
    f"def compute_score({DOCUMENTED}, **kwargs): return 1.0 - len(kwargs)": (),
    f"async def compute_score({DOCUMENTED}, **kwargs): return 1.0 - len(kwargs)": (),
    "def compute_score(**kwargs): return len(kwargs) / 4": (),
    f"def compute_score({DOCUMENTED}, time_limit=1.0): return time_limit": (),
    f"def compute_score({DOCUMENTED}, *, bonus): return bonus": (f"+{FUNCTION}.reward_kwargs.bonus=1",),
    f"def compute_score({DOCUMENTED}, bonus=0): return bonus ": (f"+{FUNCTION}.reward_kwargs={{bonus:1}}",),
    # Of the same name and value as an option of ours
    f"def compute_score({DOCUMENTED}, time_limit=0): return time_limit / 5": (
        f"{FUNCTION}.reward_kwargs.time_limit=5",
    ),
    f"def compute_score({DOCUMENTED}, **others): return float(others == {{'processes': 2}})": (
        f"{FUNCTION}.reward_kwargs.processes=2",
    ),
    "def compute_score(ground_truth, extra_info, data_source, solution_str, more=None): return 1.0": (),
    f"compute_score = lambda {DOCUMENTED}: 1.0": (),
    f"def score({DOCUMENTED}): return 1.0\ncompute_score = score": (),
    f"def compute_score(): ...\ndef compute_score({DOCUMENTED}): return 1.0": (),
    f"import functools\ndef f(bonus, {DOCUMENTED}): return bonus\ncompute_score = functools.partial(f, 1.0)": (),
    "def pair(f): return lambda **call: f(call['ground_truth'])\n@pair\ndef compute_score(truth): return 1.0": (),
    f"def compute_score(): ...\ncompute_score, _ = (lambda {DOCUMENTED}: 1.0), 2": (),
    f"def compute_score(): ...\ncompute_score: object = lambda {DOCUMENTED}: 1.0": (),
    f"def compute_score(): ...\n[compute_score := lambda {DOCUMENTED}: 1.0]": (),
    f"if True:\n  def compute_score({DOCUMENTED}): return 1.0\nelse:\n  def compute_score(): return 1.0": (),
    "X: int = 3\ndef compute_score(data_source: 'a', solution_str: X, ground_truth: 1 / 0 if 0 else X, extra_info=X): "
    "return 1.0": (),
}
# Source of a file -> (overrides, the key and the remedy in the message); verl's call of each raises TypeError.
FAIL = {
    "def compute_score(): return 1.0": ((), f"{FUNCTION}.name", DOCUMENTED),
    "def compute_score(solution_str, ground_truth): return 1.0": ((), f"{FUNCTION}.name", DOCUMENTED),
    "def compute_score(data_source, solution_str, ground_truth): return 1.0": ((), f"{FUNCTION}.name", DOCUMENTED),
    "async def compute_score(source, response, truth, info): return 1.0": ((), f"{FUNCTION}.name", DOCUMENTED),
    "def compute_score(data_source, solution_str, ground_truth, extra_info, /): return 1.0": (
        (),
        f"{FUNCTION}.name",
        DOCUMENTED,
    ),
    "def compute_score(*args): return 1.0": ((), f"{FUNCTION}.name", DOCUMENTED),
    "compute_score = lambda response, truth: 1.0": ((), f"{FUNCTION}.name", DOCUMENTED),
    "def score(response): return 1.0\ncompute_score = score": ((), f"{FUNCTION}.name", DOCUMENTED),
    f"def compute_score(bonus, {DOCUMENTED}): return bonus": ((), "bonus", f"+{FUNCTION}.reward_kwargs.bonus"),
    f"def compute_score({DOCUMENTED}, *, bonus): return bonus": ((), "bonus", f"+{FUNCTION}.reward_kwargs.bonus"),
    f"def compute_score({DOCUMENTED}): return 1.0": (
        (f"+{FUNCTION}.reward_kwargs.bonus=1",),
        f"{FUNCTION}.reward_kwargs.bonus",
        "remove it",
    ),
    f"def compute_score({DOCUMENTED}, bonus=0): return 1.0": (
        (f"{FUNCTION}.reward_kwargs.time_limit=5",),
        f"{FUNCTION}.reward_kwargs.time_limit",
        "remove it",
    ),
}


def of(source: str, folder, *overrides: str, recipe: str = "arithmetic"):
    (folder / "mine.py").write_text(source)
    config = compose_recipe(recipe, f"{FUNCTION}.path={folder}/mine.py", *overrides)
    leave_out_grader_options(config)
    return config


def called(config) -> float:
    """The score that verl gets from the function."""
    score = get_custom_reward_fn(config)(**PASSED)
    return asyncio.run(score) if inspect.iscoroutine(score) else score


@pytest.mark.parametrize("source", WORK, ids=range(len(WORK)))
def test_a_function_that_verl_can_call_passes_with_no_option_but_the_users(source, tmp_path):
    config = of(source, tmp_path, *WORK[source])
    check_reward_options(config)
    check_reward_function(config)
    assert called(config) == 1.0


@pytest.mark.parametrize("source", FAIL, ids=range(len(FAIL)))
def test_a_function_that_verl_cannot_call_is_refused_with_key_and_remedy(source, tmp_path):
    overrides, key, remedy = FAIL[source]
    config = of(source, tmp_path, *overrides)
    with pytest.raises(TypeError):
        called(config)
    with pytest.raises(ValueError) as refused:
        check_reward_function(config)
    before, _, after = str(refused.value).rpartition("; ")
    assert key in before and "mine.py" in before
    assert remedy in after


@pytest.mark.parametrize("recipe", recipes.recipe_names())
def test_every_recipe_takes_the_documented_function_and_nothing_else_is_needed(recipe, tmp_path):
    config = of(f"def mine({DOCUMENTED}): return 1.0", tmp_path, f"{FUNCTION}.name=mine", recipe=recipe)
    check_reward_options(config)
    check_reward_function(config)
    assert config.reward.custom_reward_function.reward_kwargs == {}
    assert called(config) == 1.0


@pytest.mark.parametrize("recipe", recipes.recipe_names())
def test_every_recipe_hands_our_options_to_our_function(recipe):
    config = compose_recipe(recipe, "reward.sandbox_fusion.url=http://box", "reward.graders.processes=3")
    leave_out_grader_options(config)
    check_reward_options(config)
    check_reward_function(config)
    _, options = get_custom_reward_fn(config).args
    assert options["sandbox_fusion_url"] == "http://box" and options["processes"] == 3
    assert options.keys() == config.reward.graders.keys() < inspect.signature(compute_score).parameters.keys()


@pytest.mark.parametrize(
    "lines", [["path: PATH", "reward_kwargs: {bonus: 1}"], ["reward_kwargs: {bonus: 1}", "path: PATH"]]
)
def test_a_recipe_of_the_users_may_name_a_function_and_its_options(lines, tmp_path):
    (tmp_path / "mine.py").write_text(f"def compute_score({DOCUMENTED}, *, bonus): return bonus")
    function = "\n".join(f"    {line.replace('PATH', f'{tmp_path}/mine.py')}" for line in lines)
    (tmp_path / "mine.yaml").write_text(
        "defaults:\n  - base\n  - override model: arithmetic\n  - override train_data: arithmetic\n"
        "  - override hardware: cpu\n  - _self_\nrun:\n  recipe: mine\n"
        f"reward:\n  custom_reward_function:\n{function}\n"
    )
    config = recipes.compose_recipe("mine", folder=tmp_path)
    leave_out_grader_options(config)
    check_reward_function(config)
    assert config.reward.custom_reward_function.reward_kwargs == {"bonus": 1}
    assert called(config) == 1.0


MANAGERS = {
    "naive": ("arithmetic",),
    "dapo": ("qwen3_1.7b_polaris", "data.max_response_length=8192"),
    "ours": ("arithmetic", "+evaluation=validation_only"),
}


@pytest.mark.parametrize("kind", ["def", "async def"])
@pytest.mark.parametrize("manager", MANAGERS.values(), ids=MANAGERS.keys())
def test_verls_managers_and_ours_call_the_documented_function(manager, kind, tmp_path):
    recipe, *overrides = manager
    (tmp_path / "mine.py").write_text(f"{kind} compute_score({DOCUMENTED}): return float(solution_str == ground_truth)")
    config = compose_recipe(recipe, f"{FUNCTION}.path={tmp_path}/mine.py", *overrides)
    tokenizer = build_tokenizer()
    loaded = load_reward_manager(config, tokenizer)
    tokens = tokenizer.encode("#2", return_tensors="pt")
    row = {"data_source": "mine", "reward_model": {"ground_truth": "#2"}, "extra_info": {}}
    columns = {name: np.array([value], dtype=object) for name, value in row.items()}
    batch = DataProto.from_dict({"responses": tokens, "attention_mask": torch.ones_like(tokens)}, columns)
    assert loaded.loop.run_until_complete(loaded.run_single(batch))["reward_score"] == 1.0


def test_a_reward_model_adds_two_arguments(tmp_path):
    model = "reward.reward_model.enable=true"
    check_reward_function(of(f"def compute_score({DOCUMENTED}, **kwargs): ...", tmp_path, model))
    with pytest.raises(ValueError, match=r"reward_router_address=None, reward_model_tokenizer=None\)"):
        check_reward_function(of(f"def compute_score({DOCUMENTED}): ...", tmp_path, model))


@pytest.mark.parametrize(
    ("source", "overrides", "key"),
    [
        ("class compute_score: ...", (), f"{FUNCTION}.name"),
        ("compute_score = [1.0]", (), f"{FUNCTION}.name"),
        ("compute_score = 1\nscore = compute_score", (f"{FUNCTION}.name=score",), f"{FUNCTION}.name"),
        (f"def compute_score({DOCUMENTED}): ...", (f"{FUNCTION}.reward_kwargs=null",), f"{FUNCTION}.reward_kwargs"),
        (
            f"def compute_score({DOCUMENTED}): ...",
            (f"+{FUNCTION}.reward_kwargs.ground_truth=1",),
            f"{FUNCTION}.reward_kwargs.ground_truth",
        ),
        (
            f"async def compute_score({DOCUMENTED}): ...",
            ("reward.reward_manager.name=remote",),
            "reward.reward_manager.name",
        ),
    ],
)
def test_what_is_no_function_or_no_option_is_refused(source, overrides, key, tmp_path):
    with pytest.raises(ValueError, match=rf"^{key}[=:]"):
        check_reward_function(of(source, tmp_path, *overrides))


def test_a_name_that_stands_for_itself_is_not_followed_for_ever(tmp_path):
    check_reward_function(of("compute_score = score\nscore = compute_score", tmp_path))


def test_the_managers_whose_call_is_judged_are_verls_and_ours(tmp_path):
    source = "def compute_score(answer): return 1.0"
    check_reward_function(of(source, tmp_path, "reward.reward_manager.name=mine"))
    with pytest.raises(ValueError, match=FUNCTION):
        check_reward_function(of(source, tmp_path, "+evaluation=validation_only"))
    for name in CALL_IT_SO[:4]:
        config = compose_recipe("arithmetic", f"reward.reward_manager.name={name}")
        run_single = inspect.getsource(type(load_reward_manager(config, build_tokenizer())))
        assert all(f"{argument}={argument}" in run_single for argument in ("data_source", "ground_truth", "extra_info"))
