"""Hostile files, and what must come of each: a command that reads it ends in time and says which file or run it is.

tests/hostile_files/test_cases.py puts them to the commands, and says what else holds for all of them.
"""

import json
import pickle
from dataclasses import dataclass

from tests.hostile_files.made import (
    ACTOR,
    CHECKPOINT,
    ESCAPES,
    NESTED,
    RUN,
    SHARD,
    Bytes,
    Executes,
    Make,
    both,
    checkpoint,
    config,
    config_with,
    endless,
    evaluated,
    events,
    executing_state,
    expanded_state,
    fifo,
    file,
    good_runs,
    livecodebench,
    log,
    metrics,
    parquet_of_no_values,
    parquet_of_one_text,
    problems,
    scalar,
    tensor_of_shape,
    two_checkpoints,
    wandb_file,
    zip_bomb,
)
from tests.runs.made_runs import ACCURACY

GOOD = ("good/arithmetic-balanced-seed0", "good/arithmetic-token-mean-seed0")


@dataclass(frozen=True)
class Case:
    """Attributes:
    name: what is hostile, in words.
    says: what stdout and stderr must contain together; a file or a run by name.
    make: writes the files into an empty folder, the working directory of the command.
    command: arguments of `balanced-agg`; of python, if they begin with ``-``.
    status: the exit status.
    in_ci: whether it is in the slow tier, too, not with --all alone.
    logged: whether verl's merger has begun, whose log stands before what is said.
    """

    name: str
    says: str
    make: Make
    command: tuple[str, ...]
    status: int
    in_ci: bool = False
    logged: bool = False


def compared(name: str, says: str, make: Make, in_ci: bool = False) -> Case:
    """The hostile run beside two good ones, which are compared whatever it is."""
    return Case(name, says, both(good_runs, make), ("compare", *GOOD, RUN, "--out", "out"), 0, in_ci)


def evaluation(name: str, says: str, make: Make, in_ci: bool = False, logged: bool = False) -> Case:
    """A checkpoint, which is refused before anything of it runs."""
    return Case(name, says, make, ("evaluate", CHECKPOINT), 2, in_ci, logged)


def qwen3(**values: int) -> Make:
    model = {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "num_hidden_layers": 1}
    return checkpoint(model=json.dumps(model | values))


def overriding(name: str, *overrides: str, in_ci: bool = False) -> Case:
    """A checkpoint whose run was made with these overrides, the last of which is named."""
    recorded = json.dumps(overrides)  # which is YAML
    return evaluation(name, overrides[-1][:60], checkpoint(overrides=recorded), in_ci=in_ci)


def table_only(name: str, says: str, make: Make, in_ci: bool = False) -> Case:
    """Samples of an earlier evaluation."""
    command = ("evaluate", "model", "--recipe", "arithmetic", "--table-only")
    return Case(name, says, make, command, 1, in_ci)


def inspected(name: str, make: Make, *options: str) -> Case:
    """Rollouts that a stranger has sent."""
    return Case(name, "rows.parquet cannot be read", make, ("inspect", "rows.parquet", *options), 2)


def prepared(
    name: str,
    says: str,
    make: Make,
    data: str = "math_500",
    source: str = "rows.jsonl",
    status: int = 1,
    in_ci: bool = False,
) -> Case:
    return Case(name, says, make, ("prepare", data, "--source", source, "--out", "out"), status, in_ci)


# Prints the checkpoints of `run` that a run would resume from, and why not from others; and prunes them.
RESUME = """
from pathlib import Path
from balanced_agg.plugin.guard import checkpoints
from balanced_agg.untrusted import shown
run = Path("run/checkpoints")
checkpoints.prune(run, 1)
print([folder.name for folder in checkpoints.completed(run)], shown(checkpoints.incomplete(run)))
"""


def resumed(name: str, make: Make, in_ci: bool = False) -> Case:
    """Two checkpoints, the last of which is hostile: the first is the one to resume from."""
    says = "['global_step_1'] {'global_step_2': 'run/checkpoints/global_step_2/checkpoint.json"
    return Case(name, says, both(two_checkpoints, make), ("-c", RESUME), 0, in_ci)


CONFIG, TABLE, MARK = f"{RUN}/.hydra/config.yaml", "model-evaluation", "run/checkpoints/global_step_2/checkpoint.json"
ALIASES = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)
)
MERGES = "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 10))
DOUBLING = "a0: xxxxxxxxxx\n" + "".join(f"a{n}: ${{a{n - 1}}}${{a{n - 1}}}\n" for n in range(1, 60))
QUOTED = json.dumps(ESCAPES)
BENCHMARK = "val-core/{}/acc/mean@1"

CASES = [
    # Configs of runs that are compared: nothing beyond them is resolved
    compared(
        "the environment in a run's name",
        "${oc.env:WANDB_API_KEY}",
        config_with(experiment_name="x-${oc.env:WANDB_API_KEY}-seed7"),
        True,
    ),
    compared(
        "the environment as a run's aggregation",
        "${oc.env:WANDB_API_KEY}",
        config_with(loss_agg_mode="${oc.env:WANDB_API_KEY}"),
    ),
    compared(
        "the environment as a run's recipe", "${oc.env:WANDB_API_KEY}", config_with(recipe="${oc.env:WANDB_API_KEY}")
    ),
    compared(
        "the environment by way of another key",
        "${secret}",
        config_with("secret: ${oc.env:WANDB_API_KEY}", experiment_name="${secret}"),
    ),
    compared(
        "the environment, decoded", "oc.decode", config_with(experiment_name="'${oc.decode:${oc.env:WANDB_API_KEY}}'")
    ),
    compared(
        "the environment, created", "oc.create", config_with(experiment_name="'${oc.create:${oc.env:WANDB_API_KEY}}'")
    ),
    compared(
        "the environment as a default",
        "oc.select",
        config_with(experiment_name="'${oc.select:no,${oc.env:WANDB_API_KEY}}'"),
    ),
    compared(
        "a text that becomes an interpolation",
        "${d}{oc.env",
        config_with("d: $", experiment_name="'${d}{oc.env:WANDB_API_KEY}'"),
    ),
    compared("Hydra's own resolver", "hydra:", config_with(experiment_name="'${hydra:runtime.cwd}'")),
    compared(
        "the environment in wandb's config",
        RUN,
        file(f"{RUN}/run-a.wandb", wandb_file(config='{"seed": 7, "recipe": "${oc.env:WANDB_API_KEY}"}')),
    ),
    # … and none takes more than its share of time and memory
    compared("a config of aliases", CONFIG, config(ALIASES), True),
    compared("a config of merged aliases", CONFIG, config(MERGES)),
    compared("an alias of itself", CONFIG, config("a: &a [*a]\n")),
    compared("a config of brackets", CONFIG, config(NESTED)),
    compared("a config of dashes", CONFIG, config("- " * 200_000)),
    compared("a number to base 60", "optim.lr is 1:1:1", config_with(lr="1:" * 200_000 + "1")),
    compared("a number of thousands of digits", "optim.lr is 0xfff", config_with(lr="0x" + "f" * 100_000)),
    compared("interpolations that double", "${a59}", config_with(DOUBLING, experiment_name="${a59}")),
    compared(
        "an interpolation of itself",
        "${trainer.experiment_name}x",
        config_with(experiment_name="${trainer.experiment_name}x"),
    ),
    compared("a config of many megabytes", CONFIG, config("a: [1, 2, 3]\n" * 10**6)),
    compared(
        "a config of half a megabyte of keys",
        "further keys differ",
        config_with("".join(f"k{n}: {n}\n" for n in range(30_000))),
    ),
    compared(
        "a tag that makes objects", CONFIG, config("a: !!python/object/apply:os.system ['touch executed']\n"), True
    ),
    compared("a tag that imports", CONFIG, config("a: !!python/name:antigravity\n")),
    compared("a tag on what it is not", CONFIG, config("a: !!bool maybe\n")),
    compared("half a config", CONFIG, config('run: {recipe: arithmetic, seed: 1\nx: "')),
    compared("a config that nobody writes to", CONFIG, fifo(CONFIG, log)),
    compared("a config without an end", CONFIG, endless(CONFIG, log)),
    # Logs
    compared("a log that nobody writes to", f"{RUN}/metrics.jsonl", fifo(f"{RUN}/metrics.jsonl")),
    compared("a log without an end", f"{RUN}/metrics.jsonl", endless(f"{RUN}/metrics.jsonl", config_with())),
    compared("a log of brackets", "1 incomplete line", metrics(NESTED, {"step": 4, "data": {ACCURACY: 0.5}})),
    compared(
        "a log nested as deeply as JSON may",
        "1 incomplete line",
        metrics('{"step": 1, "data": {"x": ' + '{"a":' * 950 + "1" + "}" * 952),
    ),
    compared(
        "a log of ten thousand benchmarks",
        "further benchmarks",
        metrics({"step": 4, "data": {BENCHMARK.format(n): 0.5 for n in range(10_000)}}),
    ),
    compared(
        "a benchmark with a name of a megabyte",
        "xxx…",
        metrics({"step": 4, "data": {BENCHMARK.format("x" * 10**6): 0.5}}),
    ),
    compared(
        "a line of fifty megabytes", "1 incomplete line", metrics('{"step": 4, "data": {"x": "' + "x" * 50_000_000)
    ),
    compared(
        "steps beyond any run",
        f"{2**62 + 2}",
        metrics(*({"step": 2**62 + n, "data": {ACCURACY: 0.5}} for n in range(3))),
    ),
    compared(
        "TensorBoard's file that nobody writes to",
        "tfevents.1",
        fifo(f"{RUN}/tfevents.1", log, lambda folder: (folder / RUN / "metrics.jsonl").unlink()),
    ),
    compared("TensorBoard's file of brackets", "tfevents.1", file(f"{RUN}/tfevents.1", NESTED)),
    compared(
        "a tensor of terabytes, written as one number",
        RUN,
        file(f"{RUN}/tfevents.1", events(tensor_of_shape(10**6, 10**6), scalar("y"))),
    ),
    compared(
        "a record that says it is ten gigabytes",
        "tfevents.1",
        file(f"{RUN}/tfevents.1", b"\x00\xe4\x0b\x54\x02\0\0\0" + bytes(1000)),
    ),
    compared("wandb's file that nobody writes to", "run-a.wandb", fifo(f"{RUN}/run-a.wandb")),
    compared("wandb's file of brackets", "run-a.wandb", file(f"{RUN}/run-a.wandb", b":W&B" + NESTED.encode())),
    compared("wandb's config of brackets", "run-a.wandb", file(f"{RUN}/run-a.wandb", wandb_file(config=NESTED))),
    compared(
        "wandb's config nested by its keys",
        "run-a.wandb",
        file(f"{RUN}/run-a.wandb", wandb_file(config='{"seed": 7}', nested=100_000)),
    ),
    # What a terminal would obey
    compared("escapes in a run's name", r"\x1b]0;owned\x07", config_with(experiment_name=QUOTED)),
    compared("escapes as an aggregation", r"\x1b[31m", config_with(loss_agg_mode=QUOTED)),
    compared("escapes in a seed", r"\x1b[31m", config_with(seed=QUOTED)),
    compared("escapes in a value", r"\x1b[31m", config_with(lr=QUOTED)),
    compared("escapes in a key", r"\x1b[31m", config_with(lr=f"1\n{QUOTED}: 2")),
    compared(
        "escapes in an interpolation", r"\x1b[31m", config_with(experiment_name=json.dumps("${oc.env:" + ESCAPES + "}"))
    ),
    compared("escapes in a metric's name", r"\x1b[31m", metrics({"step": 4, "data": {BENCHMARK.format(ESCAPES): 0.5}})),
    compared(
        "escapes in TensorBoard's tag",
        r"\x1b[31m",
        file(f"{RUN}/tfevents.1", events(scalar(BENCHMARK.format(ESCAPES)))),
    ),
    compared(
        "escapes in wandb's name of a run", r"\x1b[31m", file(f"{RUN}/run-a.wandb", wandb_file(ESCAPES, '{"seed": 7}'))
    ),
    Case(
        "escapes in the path of a run",
        r"\x1b[31m",
        both(good_runs, lambda folder: (log(folder), (folder / RUN).rename(folder / f"{ESCAPES}-seed7"))),
        ("compare", *GOOD, f"{ESCAPES}-seed7"),
        0,
    ),
    Case(
        "escapes in JSON",
        r"\u202e",
        both(good_runs, config_with(experiment_name=QUOTED)),
        ("compare", *GOOD, RUN, "--json"),
        0,
    ),
    Case(
        "escapes in what a model wrote",
        r"\x1b]0;owned\x07",
        file("said", ESCAPES),
        ("follow", "run", "--", "sh", "-c", "cat said; exit 3"),
        3,
        True,
    ),
    Case(
        "escapes in columns of rollouts",
        r"\x1b[31m",
        file("1.jsonl", json.dumps({ESCAPES: 1}) + "\n"),
        ("inspect", "1.jsonl"),
        2,
    ),
    prepared(
        "escapes in columns of a data set", r"\x1b[31m", file("rows.jsonl", json.dumps({ESCAPES: 1}) + "\n"), in_ci=True
    ),
    prepared("escapes in a file's name", r"\x1b[31m", file(f"{ESCAPES}.jsonl", "{"), source=f"{ESCAPES}.jsonl"),
    prepared(
        "escapes in a row's name",
        r"\x1b[31m",
        file(
            "rows.jsonl",
            json.dumps({"problem": "![](a.png)", "answer": 1, "id": ESCAPES})
            + "\n"
            + json.dumps({"problem": "a", "answer": 1, "id": ESCAPES})
            + "\n"
            + json.dumps({"problem": "a", "answer": 2, "id": ESCAPES})
            + "\n"
            + '{"problem": "b", "answer": 1}\n',
        ),
        status=0,
    ),
    table_only(
        "escapes as a benchmark's name",
        r"\x1b[31m",
        evaluated(
            sample=json.dumps(
                {"uid": "p_0_0", "data_source": ESCAPES, "acc": 1.0, "response_tokens": 1.0, "truncated": 0.0}
            )
        ),
    ),
    # Weights of checkpoints that are evaluated
    evaluation("a shard that calls a function", SHARD, checkpoint(executing_state), in_ci=True),
    evaluation("a shard that is a pickle alone", SHARD, checkpoint(raw=pickle.dumps(Executes()))),
    evaluation("a shard that makes an array of 100 GB", SHARD, checkpoint(lambda: {"w": Bytes()})),
    evaluation("a tensor of terabytes with one number", SHARD, checkpoint(expanded_state)),
    evaluation("a shard that unpacks to gigabytes", SHARD, zip_bomb),
    evaluation("a shard of a list", SHARD, checkpoint(lambda: [1, 2])),
    evaluation("a shard of words", SHARD, checkpoint(lambda: {"w": "weights"})),
    evaluation("an empty shard", SHARD, checkpoint(raw=b"")),
    evaluation("a shard of zeros", SHARD, checkpoint(raw=bytes(1000))),
    evaluation("a shard that nobody writes to", SHARD, fifo(SHARD, checkpoint())),
    evaluation("a world of a path", "fsdp_config.json", checkpoint(fsdp='{"world_size": "../../../../tmp/x"}')),
    evaluation("a world of brackets", "fsdp_config.json", checkpoint(fsdp=NESTED)),
    evaluation("a world of more ranks than shards", "fsdp_config.json", checkpoint(fsdp='{"world_size": 1000000000}')),
    evaluation(
        "a model of a billion layers",
        "huggingface/config.json",
        qwen3(num_hidden_layers=10**9),
    ),
    evaluation("a model of a trillion tokens", ACTOR, qwen3(vocab_size=10**12), logged=True),
    evaluation(
        "a model with its own code",
        ACTOR,
        both(
            checkpoint(
                model='{"model_type": "mine", "architectures": ["Mine"], "auto_map": {"AutoConfig": "mine.Config"}}'
            ),
            file(f"{ACTOR}/huggingface/mine.py", "import os; os.system('touch executed')\n"),
        ),
        logged=True,
    ),
    evaluation("a model's config of brackets", "huggingface/config.json", checkpoint(model=NESTED)),
    # … and the overrides of their runs
    overriding("a reward function of its own", "reward.custom_reward_function.path=mine.py", in_ci=True),
    overriding("a data set class of its own", "data.custom_cls.path=mine.py"),
    overriding("a sampler of its own", "data.sampler.class_path=mine.py"),
    overriding("agent loops of its own", "actor_rollout_ref.rollout.agent.agent_loop_config_path=loops.yaml"),
    overriding("tools of its own", "actor_rollout_ref.rollout.multi_turn.tool_config_path=tools.yaml"),
    overriding("a module to import", "actor_rollout_ref.model.external_lib=mine"),
    overriding("code from the hub", "actor_rollout_ref.model.trust_remote_code=true"),
    overriding("code from the hub, in braces", "actor_rollout_ref.model={trust_remote_code: true}"),
    overriding("programs without a sandbox", "reward.graders.allow_unsandboxed_code=true"),
    overriding("an interpreter of its own", "ray_kwargs.ray_init.runtime_env.py_executable=./mine"),
    overriding("variables of the run", "ray_kwargs.ray_init.runtime_env.env_vars.BALANCED_AGG_CHECKS=0"),
    overriding("a cluster of its own", "ray_kwargs.ray_init.address=ray://elsewhere:10001"),
    overriding("options of vLLM", "actor_rollout_ref.rollout.engine_kwargs.vllm.worker_cls=mine.Worker"),
    overriding("a file that a program fetches", "data.val_files='hdfs://x;touch executed;/a.parquet'"),
    overriding("the environment in a path", "data.val_files=/data/${oc.env:WANDB_API_KEY}.parquet"),
    overriding("the environment in a list", "data.val_files=[a.parquet,'${oc.decode:${oc.env:WANDB_API_KEY}}']"),
    overriding("a config file elsewhere", "hardware=../../../../tmp/mine"),
    overriding("a service of its own", "reward.graders.sandbox_fusion_url=http://elsewhere"),
    evaluation("overrides with escapes", r"\x1b[31m", checkpoint(overrides=json.dumps([f"data.prompt_key={ESCAPES}"]))),
    evaluation("overrides of aliases", "overrides.yaml", checkpoint(overrides=ALIASES)),
    evaluation("overrides that nobody writes to", "overrides.yaml", fifo("run/.hydra/overrides.yaml", checkpoint())),
    evaluation(
        "the environment as a recipe",
        "--recipe",
        checkpoint(hydra="hydra: {job: {config_name: '${oc.env:WANDB_API_KEY}'}}\n"),
    ),
    evaluation("a recipe with escapes", r"\x1b[31m", checkpoint(hydra=f"hydra: {{job: {{config_name: {QUOTED}}}}}\n")),
    # Earlier evaluations
    table_only(
        "the environment in an evaluation", f"{TABLE}/.hydra/config.yaml", evaluated("${oc.env:WANDB_API_KEY}"), True
    ),
    table_only(
        "samples that nobody writes to", f"{TABLE}/samples/0.jsonl", fifo(f"{TABLE}/samples/0.jsonl", evaluated())
    ),
    table_only("a sample of brackets", f"{TABLE}/samples/0.jsonl", evaluated(sample=NESTED)),
    inspected("rollouts of gigabytes in kilobytes", parquet_of_one_text),
    inspected("rollouts without number", parquet_of_no_values, "--group-field=problem", "--advantage-field=answer"),
    table_only("problems of gigabytes", "rows.parquet", evaluated("rows.parquet", rows=parquet_of_one_text)),
    table_only("problems without number", "rows.parquet", evaluated("rows.parquet", rows=parquet_of_no_values)),
    # Data sets
    prepared("a text of gigabytes in kilobytes", "rows.parquet", parquet_of_one_text, source="rows.parquet"),
    prepared("rows without number", "rows.parquet", parquet_of_no_values, source="rows.parquet"),
    prepared(
        "half a parquet file",
        "rows.parquet",
        file("rows.parquet", b"PAR1" + bytes(1000) + b"\xff\xff\xff\x7fPAR1"),
        source="rows.parquet",
        in_ci=True,
    ),
    prepared("a data set of brackets", "rows.jsonl", file("rows.jsonl", NESTED)),
    prepared(
        "a row nested as deeply as JSON may",
        "rows.jsonl",
        file("rows.jsonl", '{"problem": ' + '{"a":' * 950 + "1" + "}" * 951),
        in_ci=True,
    ),
    prepared("a data set that nobody writes to", "rows.jsonl", fifo("rows.jsonl")),
    prepared("a data set without an end", "rows.jsonl", endless("rows.jsonl")),
    prepared(
        "numbers of a billion digits",
        "rows dropped",
        file(
            "rows.jsonl",
            '{"problem": "a", "answer": 1e999999999}\n{"problem": "a", "answer": "9e999999999%"}\n'
            '{"problem": "b", "answer": 1}\n',
        ),
        status=0,
    ),
    prepared("solutions that do not end", "rows dropped", problems("Solution:\n" * 50_000, "a"), status=0),
    prepared(
        "pictures that do not end",
        "rows dropped",
        problems("\\includegraphics[" * 50_000, "x![" * 100_000, "x![](a." * 50_000, "a"),
        status=0,
    ),
    prepared("boxes that do not end", "rows dropped", problems("\\boxed{" * 100_000, "a"), "minerva", status=0),
    prepared(
        "instructions that could end anywhere",
        "rows dropped",
        problems("q\n" + "Please think step by step " * 60 + "w " * 100, "Solve the problem " + "boxed " * 10_000, "a"),
        status=0,
        in_ci=True,
    ),
    prepared(
        "formulas that do not end",
        "rows dropped",
        problems("\x05" + "\\(" * 30_000, "\x05" + "\\begin{a}" * 9_000, "a"),
        status=0,
    ),
    prepared(
        "spaces that do not end",
        "rows dropped",
        problems("a" + " " * 90_000 + "b", "a" + "\n\t" * 40_000 + "b", "a"),
        status=0,
    ),
    prepared("tests that call a function", "cannot be decoded", livecodebench(Executes()), "livecodebench"),
    prepared(
        "tests of a hundred million steps",
        "cannot be decoded",
        livecodebench(b"\x80\x04" + b"\x94" * 10**8),
        "livecodebench",
    ),
    prepared(
        "tests that unpack to gigabytes", "rows.jsonl", livecodebench("[" + "[]," * 10**8 + "[]]"), "livecodebench"
    ),
    prepared("tests of brackets", "cannot be decoded", livecodebench(NESTED), "livecodebench"),
    prepared("a manifest of brackets", "wrote", both(problems("a"), file("out/math_500.json", NESTED)), status=0),
    prepared(
        "a name that is a pattern",
        "out/math_500.parquet",
        both(file("secret[1].jsonl", '{"problem": "a", "answer": 1}\n'), file("secret1.jsonl", '{"no": "fields"}\n')),
        source="secret[1].jsonl",
        status=0,
    ),
    # Checkpoints of one's own run
    resumed("an empty mark", file(MARK, ""), True),
    resumed("a mark of brackets", file(MARK, NESTED), True),
    resumed("a mark of other things", file(MARK, '{"complete": true, "files": 3}')),
    resumed("a mark that nobody writes to", fifo(MARK), True),
    resumed("a mark without an end", endless(MARK)),
]
