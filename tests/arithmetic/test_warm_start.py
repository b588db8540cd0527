"""Claims about the warm start: cached by its settings, deterministic, and right half of the time."""

import json
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from statistics import mean, pstdev

import pytest
import torch
from balanced_agg.data.embedded import prepare_task
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from balanced_agg.arithmetic import warm_start as warm_start_module
from balanced_agg.arithmetic.demonstrations import REGIMES
from balanced_agg.arithmetic.problems import sample_problems
from balanced_agg.arithmetic.search import CLAIM, GIVE_UP
from balanced_agg.arithmetic.tasks import ARITHMETIC, SEARCH
from balanced_agg.arithmetic.tokenizer import encode_prompt, vocabulary
from balanced_agg.arithmetic.warm_start import RECORD_NAME, WarmStartSettings, warm_start
from balanced_agg.commands.evaluate.statistics import pass_at
from balanced_agg.rewards import compute_score

# One thread: on a busy machine the threads of such small sums would mostly wait for one another.
TINY = WarmStartSettings(steps=2, batch_size=4, threads=1)
PROBLEMS = sample_problems(8, seed=0)
ROOT = Path(__file__).parents[2]
GROUP_SIZE = 8


def tiny_warm_start(out_dir, regime="length_gap", seed=0, settings=TINY, problems=PROBLEMS) -> bool:
    return warm_start(ARITHMETIC, regime, out_dir, problems, seed, settings)


def weights(directory) -> dict[str, torch.Tensor]:
    return AutoModelForCausalLM.from_pretrained(directory, local_files_only=True).state_dict()


def test_same_seed_gives_the_same_weights_and_another_seed_gives_others(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        torch.manual_seed(len(name))
        assert tiny_warm_start(tmp_path / name, seed=seed)
    a, b, c = (weights(tmp_path / name) for name in "abc")
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert not torch.equal(a["lm_head.weight"], c["lm_head.weight"])


def test_regimes_train_to_different_weights(tmp_path):
    tiny_warm_start(tmp_path / "gap", regime="length_gap")
    tiny_warm_start(tmp_path / "spread", regime="length_spread")
    assert not torch.equal(weights(tmp_path / "gap")["lm_head.weight"], weights(tmp_path / "spread")["lm_head.weight"])


def test_second_call_leaves_every_file_untouched(tmp_path):
    out_dir = tmp_path / "model"
    assert tiny_warm_start(out_dir) is True
    before = {path.name: path.stat().st_mtime_ns for path in out_dir.iterdir()}
    assert tiny_warm_start(out_dir) is False
    assert {path.name: path.stat().st_mtime_ns for path in out_dir.iterdir()} == before


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"regime": "length_spread"},
        {"settings": replace(TINY, steps=3)},
        {"problems": PROBLEMS[:-1]},
    ],
    ids=lambda change: next(iter(change)),
)
def test_changed_argument_makes_the_cache_stale(tmp_path, change):
    tiny_warm_start(tmp_path / "model")
    assert tiny_warm_start(tmp_path / "model", **change) is True


def test_changed_noise_makes_the_cache_stale(tmp_path, monkeypatch):
    tiny_warm_start(tmp_path / "model")
    monkeypatch.setitem(REGIMES, "length_gap", replace(REGIMES["length_gap"], slip_rate=0.4))
    assert tiny_warm_start(tmp_path / "model") is True


@pytest.mark.parametrize("content", ["", "{", "[]", '{"seed": 0}'])
def test_damaged_record_makes_the_cache_stale(tmp_path, content):
    tiny_warm_start(tmp_path / "model")
    (tmp_path / "model" / RECORD_NAME).write_text(content)
    assert tiny_warm_start(tmp_path / "model") is True


def test_failure_leaves_no_trace_and_keeps_the_earlier_result(tmp_path, monkeypatch):
    tiny_warm_start(tmp_path / "model")
    record = (tmp_path / "model" / RECORD_NAME).read_text()

    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(warm_start_module.json, "dumps", fail)
    with pytest.raises(OSError, match="disk full"):
        tiny_warm_start(tmp_path / "model", seed=1)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert (tmp_path / "model" / RECORD_NAME).read_text() == record


def test_foreign_directory_is_not_replaced(tmp_path):
    (tmp_path / "thesis.tex").write_text("ten years of work")
    with pytest.raises(FileExistsError, match="choose another directory"):
        tiny_warm_start(tmp_path)
    assert (tmp_path / "thesis.tex").exists()


def test_directory_holds_float32_weights_tokenizer_and_generation_config(tmp_path):
    tiny_warm_start(tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model", local_files_only=True)
    generation = GenerationConfig.from_pretrained(tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert len(tokenizer) == config["vocab_size"] == len(vocabulary(ARITHMETIC))
    assert generation.eos_token_id == config["eos_token_id"] == tokenizer.eos_token_id
    assert generation.pad_token_id == config["pad_token_id"] == tokenizer.pad_token_id
    assert all(tensor.dtype == torch.float32 for tensor in weights(tmp_path / "model").values())


def test_loss_covers_the_response_with_its_end_token_and_nothing_else(tmp_path):
    tokenizer = warm_start_module.build_tokenizer()
    batch = next(warm_start_module._batches(ARITHMETIC, "length_gap", PROBLEMS, 0, 6, tokenizer))
    assert [len(labels) for _, labels in batch] == [3, 3]
    for input_ids, labels in batch:
        for ids, wanted in zip(input_ids, labels, strict=True):
            covered = wanted != -100
            assert torch.equal(ids[covered], wanted[covered])
            text = tokenizer.decode(ids[~covered & (ids != tokenizer.pad_token_id)])
            assert text.startswith("<|user|>") and text.endswith("=<|end|><|assistant|>")
            assert tokenizer.decode(ids[covered]).endswith("<|end|>")


@pytest.mark.slow
def test_threads_and_random_state_of_the_caller_are_left_alone(tmp_path):
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    tiny_warm_start(tmp_path / "model", settings=replace(TINY, threads=threads + 1))
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


def test_unknown_regime_is_an_error_that_names_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match=r"length_gap.*length_spread"):
        next(prepare_task(ARITHMETIC, tmp_path, regime="length"))


@pytest.fixture(
    scope="module",
    params=[
        (ARITHMETIC, "length_gap"),
        pytest.param((ARITHMETIC, "length_spread"), marks=pytest.mark.evidence),
        pytest.param((SEARCH, "length_spread"), marks=pytest.mark.evidence),
        pytest.param((SEARCH, "length_gap"), marks=pytest.mark.evidence),
    ],
    ids=lambda chosen: f"{chosen[0].name}-{chosen[1]}",
)
def warm_started(request):
    """(task, regime, directory that the command line wrote): where the end-to-end tests will find it."""
    task, regime = request.param
    out_dir = ROOT / "artifacts" / task.name / regime
    run_command_line(task, regime, out_dir)
    return task, regime, out_dir


def run_command_line(task, regime, out_dir) -> str:
    command = [sys.executable, "-m", "balanced_agg", "prepare", task.name, "--regime", regime, "--out", str(out_dir)]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def sample_groups(task, model_dir, prompt_count=64) -> list[list[tuple[int, bool, str]]]:
    """(length in tokens, right or not, last character) of responses at temperature 1, by group of one train prompt."""
    model = AutoModelForCausalLM.from_pretrained(model_dir, local_files_only=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(model_dir, local_files_only=True)
    train, _ = task.train_validation_split(0)
    problems = [p for p in random.Random(0).sample(train, prompt_count) for _ in range(GROUP_SIZE)]
    prompts = [encode_prompt(tokenizer, problem) for problem in problems]
    inputs = tokenizer.pad({"input_ids": prompts}, return_tensors="pt")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        output = model.generate(
            **inputs, do_sample=True, temperature=1.0, top_k=0, top_p=1.0, max_new_tokens=task.longest
        )
    responses = []
    for problem, ids in zip(problems, output[:, inputs["input_ids"].shape[1] :], strict=True):
        length = int((ids != tokenizer.pad_token_id).sum())
        text = tokenizer.decode(ids[:length], skip_special_tokens=True)
        responses.append((length, compute_score(task.name, text, problem.answer)["acc"] == 1.0, text[-1:]))
    return [responses[i : i + GROUP_SIZE] for i in range(0, len(responses), GROUP_SIZE)]


@pytest.mark.slow
def test_warm_started_model_has_the_properties_of_its_regime(warm_started):
    task, regime, out_dir = warm_started
    groups = sample_groups(task, out_dir / "model")
    responses = [response for group in groups for response in group]
    right = mean(length for length, is_right, _ in responses if is_right)
    wrong = mean(length for length, is_right, _ in responses if not is_right)
    spread = mean(pstdev(length for length, *_ in g) / mean(length for length, *_ in g) for g in groups)
    accuracy = mean(is_right for _, is_right, _ in responses)
    mixed = mean(len({is_right for _, is_right, _ in group}) == 2 for group in groups)
    cut = mean(length == task.longest for length, *_ in responses)
    lengths = f"{right:.1f} / {wrong:.1f} tokens, CV {spread:.2f}"
    print(f"{task.name}, {regime}: {accuracy:.2f} right, {lengths}, {mixed:.2f} mixed")
    if task is SEARCH:
        pass_at_4 = mean(pass_at(4, GROUP_SIZE, sum(is_right for _, is_right, _ in group)) for group in groups)
        gave_up = mean(end == GIVE_UP for *_, end in responses)
        false = mean(end == CLAIM and not is_right for _, is_right, end in responses)
        print(f"pass@4 {pass_at_4:.2f}, {gave_up:.2f} given up, {false:.2f} false claims, {cut:.3f} cut")

    assert (0.30 if task is ARITHMETIC else 0.15) <= accuracy <= 0.60
    assert mixed > 0.5
    assert cut < 0.05
    assert spread > 0.25
    if regime == "length_gap":
        assert wrong > (1.4 if task is ARITHMETIC else 1.25) * right
    else:
        assert wrong == pytest.approx(right, rel=0.15)


@pytest.mark.slow
def test_second_run_of_the_command_line_keeps_everything_and_says_so(warm_started):
    task, regime, out_dir = warm_started
    before = {path: path.stat().st_mtime_ns for path in out_dir.rglob("*")}
    assert run_command_line(task, regime, out_dir).count("up to date") == 3
    assert {path: path.stat().st_mtime_ns for path in out_dir.rglob("*")} == before
