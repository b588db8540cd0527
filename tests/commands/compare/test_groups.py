"""Ragged, short and differing runs are named, and are in no mean they do not belong to."""

from pathlib import Path

import pytest

from balanced_agg.commands.compare.differences import differences
from balanced_agg.commands.compare.groups import settings
from balanced_agg.commands.compare.summary import summarize
from balanced_agg.runs.run import read_runs
from tests.runs.made_runs import make_run, write_log


def only_setting(*paths):
    (setting,) = settings(read_runs(paths))
    return setting


def test_runs_that_agree_need_no_remark(tmp_path):
    paths = [make_run(tmp_path, mode, seed) for mode in ("balanced", "token-mean") for seed in (0, 1)]
    setting = only_setting(*paths)
    seeds = {mode: [run.seed for run in group] for mode, group in setting.groups.items()}
    assert list(seeds.items()) == [("balanced", [0, 1]), ("token-mean", [0, 1])]
    assert setting.remarks == []


@pytest.mark.parametrize(
    "short",
    [
        {"steps": 3, "accuracies": {0: 0.0, 2: 0.0}},  # it ended before its own total_training_steps
        {"steps": 4, "accuracies": {0: 0.0, 2: 0.0}},  # it lacks the last validation of the others
        {"steps": 4, "accuracies": {}},  # it has no validation
    ],
)
def test_a_run_cut_short_is_named_and_in_no_statistic(tmp_path, short):
    setting = only_setting(make_run(tmp_path, seed=0), make_run(tmp_path, seed=1, **short))
    assert [run.seed for run in setting.groups["balanced"]] == [0] and [run.seed for run in setting.cut_short] == [1]
    assert any(
        remark.startswith("arithmetic-balanced-seed1 ") and "in no statistic" in remark for remark in setting.remarks
    )
    (numbers,) = summarize([setting], [])["settings"][0]["groups"]
    assert numbers["seeds_cut_short"] == [1]
    assert numbers["benchmarks"]["arithmetic mean@2"]["last"] == {
        "by_seed": {0: 0.75},
        "mean": 0.75,
        "half_width": None,
    }


def test_a_run_that_failed_before_its_first_step_is_named(tmp_path):
    failed = make_run(tmp_path, seed=1)
    write_log(tmp_path / "arithmetic-balanced-seed1/metrics.jsonl", [])
    setting = only_setting(make_run(tmp_path, seed=0), failed)
    assert setting.remarks[0].startswith("arithmetic-balanced-seed1 has logged no step")


def test_in_the_middle_of_a_sweep_the_furthest_runs_are_compared_as_they_stand(tmp_path):
    paths = [make_run(tmp_path, seed=seed, steps=4, total_steps=100) for seed in (0, 1)]
    setting = only_setting(*paths)
    assert [run.seed for run in setting.groups["balanced"]] == [0, 1]
    assert "No run has got to the end" in setting.remarks[0]


def test_without_any_validation_the_last_step_decides(tmp_path):
    paths = [make_run(tmp_path, seed=s, steps=n, accuracies={}, total_steps=None) for s, n in ((0, 4), (1, 3))]
    setting = only_setting(*paths)
    assert [run.seed for run in setting.cut_short] == [1]
    assert "last step at step 3, others at 4" in setting.remarks[0]


def test_different_seeds_are_named(tmp_path):
    setting = only_setting(make_run(tmp_path, "balanced", 0), make_run(tmp_path, "token-mean", 1))
    assert any("different seeds" in remark and "balanced 0; token-mean 1" in remark for remark in setting.remarks)


def test_incomplete_lines_are_named(tmp_path):
    folder = make_run(tmp_path)
    with Path(folder, "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "da')
    assert only_setting(folder).remarks == ["arithmetic-balanced-seed0: 1 incomplete line skipped"]


def test_a_benchmark_and_a_quantity_that_a_run_lacks_are_named(tmp_path):
    further = {"val-core/aime/acc/mean@8": 0.5, "aggregation/length_gap": 0.1}
    setting = only_setting(make_run(tmp_path, seed=0, **further), make_run(tmp_path, seed=1))
    assert any("aime mean@8 was not logged by arithmetic-balanced-seed1" in remark for remark in setting.remarks)
    assert any("length gap was not logged by arithmetic-balanced-seed1" in remark for remark in setting.remarks)
    (numbers,) = summarize([setting], [])["settings"][0]["groups"]
    assert list(numbers["benchmarks"]["mean"]["last"]["by_seed"]) == [0]


def test_a_differing_key_is_named_with_its_values(tmp_path):
    paths = [make_run(tmp_path, seed=seed, lr="3e-5" if seed == 2 else "1e-5") for seed in (0, 1, 2, 3)]
    assert only_setting(*paths).remarks == [
        "The configs differ: actor_rollout_ref.actor.optim.lr is 3e-05 in arithmetic-balanced-seed2; "
        "1e-05 in the 3 other runs."
    ]


def with_configs(tmp_path, *configs):
    runs = read_runs([make_run(tmp_path, seed=seed) for seed in range(len(configs))])
    for run, config in zip(runs, configs, strict=True):
        run.config = config
    return differences(runs)


def test_modes_seeds_names_and_directories_may_differ(tmp_path):
    def config(mark):
        return {
            "actor": {"loss_agg_mode": mark, "loss_scale_factor": mark, "data_loader_seed": mark},
            "run": {"name": mark, "group": mark, "dir": mark},
            "trainer": {"default_local_dir": mark, "experiment_name": mark},
            "env_vars": {"WANDB_TAGS": mark, "VERL_FILE_LOGGER_PATH": mark},
        }

    assert with_configs(tmp_path, config("a"), config("b")) == []


def test_names_of_parts_may_not_differ(tmp_path):
    (found,) = with_configs(tmp_path, {"rollout": {"name": "vllm"}}, {"rollout": {"name": "sglang"}})
    assert found.startswith("rollout.name is ")


def test_secrets_in_configs_are_not_shown(tmp_path):
    (found,) = with_configs(tmp_path, {"env": {"HF_TOKEN": "hf_abc"}}, {"env": {"HF_TOKEN": "hf_xyz"}})
    assert found == "env.HF_TOKEN differs (values not shown)"


def test_an_interpolation_is_no_difference_to_its_resolved_value(tmp_path):
    raw, resolved = {"n": 8, "data": {"n": "${n}"}}, {"n": 8, "data": {"n": 8}}
    assert with_configs(tmp_path, raw, resolved) == []
    (found,) = with_configs(tmp_path, raw, resolved | {"n": 4})
    assert found.startswith("n is ")


def test_runs_without_a_config_are_named(tmp_path):
    paths = [write_log(tmp_path / f"a-balanced-seed{seed}.jsonl", [(1, {})]) for seed in (0, 1)]
    (remark,) = only_setting(*map(str, paths)).remarks
    assert remark.startswith("No config to compare") and "a-balanced-seed0, a-balanced-seed1" in remark
