"""Nothing that a run left behind ends in a traceback: it is left out, or read as far as it goes, and named."""

import json
import struct
import zlib
from pathlib import Path

import pytest
import wandb
from torch.utils.tensorboard import SummaryWriter
from typer.testing import CliRunner

from balanced_agg.commands.cli import app
from balanced_agg.runs.wandb_log import FULL
from tests.runs.made_runs import ACCURACY, make_run, write_log

RECORDS = [(0, {ACCURACY: 0.5}), (1, {"critic/score/mean": 0.5}), (4, {ACCURACY: 0.75})]
NESTED = b"[" * 100_000


def compare(*arguments):
    return CliRunner().invoke(app, ["compare", *map(str, arguments)])


def line(data: object, step: object = 2) -> bytes:
    return json.dumps({"step": step, "data": data}).encode() + b"\n"


def config_text(seed=7) -> str:
    return f"run: {{recipe: arithmetic, seed: {seed}}}\nactor_rollout_ref: {{actor: {{loss_agg_mode: balanced}}}}\n"


# What stands in metrics.jsonl besides the lines of a good run.
LINES = {
    "a whole number of 400 digits": b'{"step": 2, "data": {"actor/entropy": ' + b"9" * 400 + b"}}\n",
    "a whole number of 5000 digits": b'{"step": 2, "data": {"actor/entropy": ' + b"9" * 5000 + b"}}\n",
    "infinity and not a number": b'{"step": 2, "data": {"actor/entropy": Infinity, "x": NaN, "y": -Infinity}}\n',
    "1e999": b'{"step": 2, "data": {"actor/entropy": 1e999}}\n',
    "numbers whose sum overflows": b"".join(line({"actor/entropy": 1.7e308, ACCURACY: -1.7e308}, s) for s in (2, 3)),
    "half of a surrogate pair": b'{"step": 2, "data": {"val-core/\\ud800/acc/mean@1": 0.5}}\n',
    "half a line": b'{"step": 2, "da',
    "half a line before others": b'{"step": 2, "da' + line({"x": 1}),
    "invalid UTF-8": b'{"step": 2, "data": {"\xff\xfe": 1}}\n',
    "zeros": b"\0" * 4096,
    "thousands of brackets": NESTED + b"\n",
    "values of other kinds": line({ACCURACY: None, "critic/score/mean": [1], "actor/entropy": {"a": "b"}, "x": "y"}),
    "a negative step": line({"x": 1}, -1),
    "a line without an end": line({"text": "x" * 10**6}),
}
NAMES = {
    "dollars": "val-core/a$b$c/acc/mean@1",
    "a formula": r"val-core/$\frac{/acc/mean@1",
    "an unbalanced dollar": "val-core/$/acc/mean@1",
    "a line break": "val-core/a\nb/acc/mean@1",
    "markup": "val-core/<b>[red]{x}%s/acc/mean@1",
    "a path": "val-core/../../../etc/acc/mean@1",
    "another script": "val-core/数学 \u202e🎲/acc/mean@1",
    "control characters": "val-core/\x1b[31m\x00/acc/mean@1",
    "a long one": f"val-core/{'x' * 400}/acc/mean@1",
}
CONFIGS = {
    "cut in an interpolation": config_text().encode() + b"x: ${run.",
    "cut in a quoted text": config_text().encode() + b'x: "abc',
    "cut in braces": config_text().encode()[:30],
    "cut before the mode": config_text().splitlines()[0].encode() + b"\n",
    "empty": b"",
    "a list": b"[1, 2]\n",
    "a text": b"hello\n",
    "invalid UTF-8": b"run: \xff\xfe\n",
    "zeros": b"\0" * 100,
    "a tag of Python's": b"run: !!python/object:os.system {}\n",
    "a key twice": b"run: {seed: 1}\nrun: {seed: 2}\n",
    "a loop": b"run: &a\n  b: *a\n",
    "sections that are values": b"run: 3\nactor_rollout_ref: []\ntrainer: x\ndata: null\n",
    "a seed that is none": config_text("abc").encode(),
    "endless steps": config_text().encode() + b"trainer: {total_training_steps: .inf}\n",
    "steps in words": config_text().encode() + b"trainer: {total_training_steps: many}\n",
    "an interpolation of itself": config_text().encode()
    + b"trainer: {experiment_name: '${trainer.experiment_name}'}\n",
    "keys that are numbers": config_text().encode() + b"1: {2: 3}\nfalse: 4\n",
    "a whole number of 400 digits": config_text().encode() + b"trainer: {total_training_steps: " + b"9" * 400 + b"}\n",
}


@pytest.fixture
def good(tmp_path):
    return [make_run(tmp_path / "good", mode, seed=0) for mode in ("balanced", "token-mean")]


def compared_beside(good, hostile) -> dict:
    """The summary of a comparison with two good runs, which takes part in or does without the hostile one."""
    done = compare(*good, hostile, "--json")
    assert done.exit_code == 0, done.output or done.exception
    summary = json.loads(done.stdout)
    assert {"arithmetic-balanced-seed0", "arithmetic-token-mean-seed0"} <= {run["name"] for run in summary["runs"]}
    return summary


def told(summary) -> str:
    return "\n".join([*summary["remarks"], *(text for setting in summary["settings"] for text in setting["remarks"])])


def alone(hostile) -> str:
    """What is said where there is no other run: one line, or a comparison of what can be read."""
    done = compare(hostile)
    assert isinstance(done.exception, SystemExit | None), done.exception
    assert done.exit_code == 0 or (done.exit_code == 2 and done.stderr.count("\n") == 1 and not done.stdout)
    return done.output


@pytest.mark.parametrize("lines", LINES.values(), ids=LINES.keys())
def test_lines_of_a_log_that_no_logger_writes_cost_nothing_but_themselves(lines, good, tmp_path):
    folder = make_run(tmp_path, seed=7)
    log = Path(folder, "metrics.jsonl")
    first, last = log.read_bytes().split(b"\n", 1)
    log.write_bytes(b"\n".join([first, lines, last]))
    summary = compared_beside(good, folder)
    (run,) = (run for run in summary["runs"] if run["seed"] == 7)
    assert run["last_step"] == 4 and run["last"] == 0.75
    alone(folder)


def test_benchmarks_may_have_any_name_and_have_a_picture_each(good, tmp_path):
    names = [*NAMES.values(), *(f"val-core/a{odd}b/acc/mean@1" for odd in "$#%")]
    folder = make_run(tmp_path, "seq-mean-token-mean", **dict.fromkeys(names, 0.25))
    done = compare(*good, folder, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.exception
    assert {path.parent for path in (tmp_path / "out").rglob("*")} == {tmp_path / "out"}
    assert len(list((tmp_path / "out").glob("validation_accuracy-*.png"))) == 1 + len(names)


@pytest.mark.parametrize("content", CONFIGS.values(), ids=CONFIGS.keys())
def test_a_config_that_is_damaged_leaves_the_run_its_name(content, good, tmp_path):
    folder = tmp_path / "arithmetic-balanced-seed7"
    write_log(folder / "metrics.jsonl", RECORDS)
    (folder / ".hydra").mkdir()
    (folder / ".hydra/config.yaml").write_bytes(content)
    summary = compared_beside(good, folder)
    runs = {(run["setting"], run["mode"], run["seed"]) for run in summary["runs"]}
    assert ("arithmetic", "balanced", 7) in runs or "its seed is 'abc'" in told(summary)
    alone(folder)


def test_a_config_that_cannot_be_read_is_named(good, tmp_path):
    folder = tmp_path / "arithmetic-balanced-seed7"
    write_log(folder / "metrics.jsonl", RECORDS)
    (folder / ".hydra/config.yaml").mkdir(parents=True)
    assert f"{folder}/.hydra/config.yaml cannot be read" in told(compared_beside(good, folder))
    folder = folder.rename(tmp_path / "mine")
    said = alone(folder)
    assert "cannot tell its seed" in said and f"{folder}/.hydra/config.yaml cannot be read" in said


def directory(folder):
    (folder / "metrics.jsonl").mkdir(parents=True)
    return folder, "metrics.jsonl cannot be read: Is a directory"


def rollouts(folder):
    (folder / "metrics.jsonl").parent.mkdir()
    (folder / "metrics.jsonl").write_text('{"prompt": "1+1="}\n')
    return folder, "metrics.jsonl, line 1 is no record"


def without_a_log(folder):
    (folder / "checkpoints").mkdir(parents=True)
    return folder, f"{folder} is none of"


def empty_file_of_wandb(folder):
    folder.mkdir()
    (folder / "run-x.wandb").touch()
    return folder, "run-x.wandb"


def other_file_of_wandb(folder):
    folder.mkdir()
    (folder / "run-x.wandb").write_bytes(b"\0" * 1000)
    return folder, "run-x.wandb does not begin with :W&B"


def directory_of_wandb(folder):
    (folder / "run-x.wandb").mkdir(parents=True)
    return folder, "run-x.wandb cannot be read: Is a directory"


def a_huge_step(folder):
    folder.mkdir()
    (folder / "metrics.jsonl").write_bytes(line({"x": 1}, 10**400))
    return folder, "metrics.jsonl, line 1 is no record"


def a_step_that_is_true(folder):
    folder.mkdir()
    (folder / "metrics.jsonl").write_bytes(line({"x": 1}, True))
    return folder, "metrics.jsonl, line 1 is no record"


UNREADABLE = [
    directory,
    rollouts,
    without_a_log,
    empty_file_of_wandb,
    other_file_of_wandb,
    directory_of_wandb,
    a_huge_step,
    a_step_that_is_true,
]


@pytest.mark.parametrize("make", UNREADABLE)
def test_a_run_that_cannot_be_read_is_left_out_and_named(make, good, tmp_path):
    folder, says = make(tmp_path / "arithmetic-balanced-seed7")
    (remark,) = (text for text in compared_beside(good, folder)["remarks"] if "Left out" in text)
    assert says in remark
    assert says in alone(folder)


def test_a_path_that_does_not_exist_is_a_mistake_of_the_users(good, tmp_path):
    done = compare(*good, tmp_path / "typo")
    assert done.exit_code == 2 and "typo does not exist" in done.stderr


@pytest.fixture(scope="module")
def events(tmp_path_factory) -> bytes:
    folder = tmp_path_factory.mktemp("tensorboard")
    with SummaryWriter(str(folder)) as writer:
        for step, data in RECORDS:
            for key, value in data.items():
                writer.add_scalar(key, value, step)
    (file,) = folder.iterdir()
    return file.read_bytes()


def framed(payload: bytes) -> bytes:
    """A record of TensorBoard's; its reader in Python does not look at the checksums' values."""
    return struct.pack("<QI", len(payload), 0) + payload + struct.pack("<I", 0)


@pytest.mark.parametrize("kind", ["cut", "empty", "garbage", "flipped", "no event", "a directory", "a long record"])
def test_a_tensorboard_file_counts_as_far_as_it_can_be_read(kind, events, good, tmp_path):
    folder = tmp_path / "arithmetic-balanced-seed7"
    folder.mkdir()
    file = folder / "events.out.tfevents.1.host"
    if kind == "a directory":
        file.mkdir()
    else:
        middle = len(events) // 2
        contents = {
            "cut": events[:-5],
            "empty": b"",
            "garbage": b"\xff" * 1000,
            "flipped": events[:middle] + bytes([events[middle] ^ 0xFF]) + events[middle + 1 :],
            "no event": framed(b"\xff" * 10),
            "a long record": struct.pack("<QI", 2**62, 0),
        }
        file.write_bytes(contents[kind])
    summary = compared_beside(good, folder)
    (run,) = (run for run in summary["runs"] if run["seed"] == 7)
    assert run["last_step"] < 4
    assert kind == "empty" or f"{file} cannot be read to its end" in told(summary)
    alone(folder)


@pytest.fixture(scope="module")
def offline(tmp_path_factory) -> bytes:
    """A real file of wandb's, with a text in its config that OmegaConf would take for an interpolation."""
    folder = tmp_path_factory.mktemp("wandb")
    config = {
        "run": {"recipe": "arithmetic", "seed": 7},
        "actor_rollout_ref": {"actor": {"loss_agg_mode": "balanced"}},
        "data": {"template": "{% if x %}${ y", "${": "$"},
        "trainer": {"total_training_steps": 4},
    }
    settings = wandb.Settings(silent=True, console="off", x_disable_stats=True, x_disable_meta=True)
    with wandb.init(mode="offline", dir=folder, name="mine", config=config, settings=settings) as run:
        for step, data in RECORDS:
            run.log(data, step=step)
    wandb.teardown()
    (file,) = folder.glob("wandb/offline-run-*/*.wandb")
    return file.read_bytes()


def test_texts_of_a_wandb_config_are_texts(offline, good, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/run-x.wandb").write_bytes(offline)
    summary = compared_beside(good, tmp_path / "mine")
    assert ("arithmetic", "balanced", 7, 4) in {
        (run["setting"], run["mode"], run["seed"], run["last_step"]) for run in summary["runs"]
    }


def test_a_wandb_file_cut_anywhere_is_read_or_named(offline, tmp_path):
    (tmp_path / "mine").mkdir()
    for end in range(0, len(offline), 97):
        (tmp_path / "mine/run-x.wandb").write_bytes(offline[:end])
        said = alone(tmp_path / "mine")
        # Cut between two records, it is what a run that was stopped there leaves.
        assert "run-x.wandb" in said or "mine" in said or "balanced" in said


def test_a_damaged_run_in_a_wandb_folder_does_not_keep_the_others_from_being_read(offline, tmp_path):
    for name, content in {"a": offline, "b": b"\0" * 50, "c": b""}.items():
        (tmp_path / f"wandb/offline-run-{name}").mkdir(parents=True)
        (tmp_path / f"wandb/offline-run-{name}/run-{name}.wandb").write_bytes(content)
    done = compare(tmp_path / "wandb")
    assert done.exit_code == 0 and "run-b.wandb does not begin with" in done.stdout


def test_a_wandb_run_that_has_only_started_is_named_beside_one_that_is_damaged(tmp_path, good):
    for name, content in {"b": b"\0" * 50, "c": b""}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / f"run-{name}.wandb").write_bytes(content)
    said = "\n".join(json.loads(compare(*good, tmp_path / "b", tmp_path / "c", "--json").stdout)["remarks"])
    assert "run-b.wandb does not begin with" in said and "nothing yet to run-c.wandb" in said


def record(payload: bytes) -> bytes:
    kind = bytes([FULL])
    return struct.pack("<IH", zlib.crc32(kind + payload), len(payload)) + kind + payload


def test_records_that_wandb_would_not_write_are_left_out_and_counted(offline, tmp_path):
    from wandb.proto.wandb_internal_pb2 import Record

    odd = Record()
    odd.history.step.num = 2
    odd.history.item.add(key="x", value_json='{"torn')
    deep = Record()
    deep.history.item.add(key="x", value_json="[" * 20_000)
    clash = Record()
    clash.config.update.add(nested_key=["run", "seed", "x"], value_json="1")
    (tmp_path / "mine").mkdir()
    damaged = b"".join(map(record, (b"\xff" * 10, odd.SerializeToString(), deep.SerializeToString())))
    content = offline + damaged + record(clash.SerializeToString())
    (tmp_path / "mine/run-x.wandb").write_bytes(content)
    done = compare(tmp_path / "mine", "--json")
    assert done.exit_code == 0
    assert "4 records of run-x.wandb" in told(json.loads(done.stdout))


def test_a_report_that_cannot_be_written_is_one_line(good, tmp_path):
    (tmp_path / "file").touch()
    done = compare(*good, "--out", tmp_path / "file/report")
    assert done.exit_code == 1 and done.stderr.count("\n") == 1 and "file" in done.stderr


def test_verls_reward_stands_in_where_there_is_no_acc_and_is_told(tmp_path):
    reward = "val-core/mine/reward/mean@2"
    for seed in (0, 1):
        make_run(tmp_path, seed=seed, accuracies={}, **{reward: 0.25, "val-aux/mine/score/mean@2": 9.0})
    done = compare(*tmp_path.iterdir(), "--json")
    summary = json.loads(done.stdout)
    (setting,) = summary["settings"]
    assert setting["benchmarks"] == ["mine mean@2"]
    assert setting["groups"][0]["benchmarks"]["mine mean@2"]["last"]["mean"] == 0.25
    assert "Rewards on mine mean@2 come without acc" in told(summary)


def test_an_accuracy_is_not_compared_with_a_reward(tmp_path):
    make_run(tmp_path, seed=0, accuracies={}, **{"val-core/mine/acc/mean@2": 0.5})
    make_run(tmp_path, seed=1, accuracies={}, **{"val-core/mine/reward/mean@2": 0.25})
    summary = json.loads(compare(*tmp_path.iterdir(), "--json").stdout)
    assert "mine mean@2 was not logged by arithmetic-balanced-seed1" in told(summary)
    assert list(summary["settings"][0]["groups"][0]["benchmarks"]["mine mean@2"]["last"]["by_seed"]) == ["0"]
