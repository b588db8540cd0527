"""Wrong configurations and inputs, as a researcher makes them: typos, incompatible combinations, truncated files.

Each ends in one message that says what to change. ``{inputs}`` is a folder with a model and data files that are good
enough for every check before a launch, ``{run}`` an empty one; tests/end_to_end/attempts.py makes both.
"""

import fcntl
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

from tests.composed import write_rows


def nothing(inputs: Path) -> None:
    pass


@dataclass(frozen=True)
class Case:
    """Attributes:
    name: what is wrong, in words.
    says: what the message must contain.
    command: a script of the project, or a module, and its arguments.
    spoil: changes the folder of inputs, or the folder ``run`` beside it.
    environment: variables; None unsets one.
    """

    name: str
    says: str
    command: tuple[str, ...]
    spoil: Callable[[Path], None] = nothing
    environment: dict[str, str | None] = field(default_factory=dict)


def training(name: str, says: str, *overrides: str, spoil: Callable = nothing, **environment: str | None) -> Case:
    own = ("scripts/train.sh", "arithmetic", "run.dir={run}", "arithmetic.dir={inputs}")
    return Case(name, says, own + overrides, spoil, environment)


def command(name: str, says: str, *words: str, spoil: Callable = nothing, **environment: str | None) -> Case:
    return Case(name, says, words, spoil, environment)


def training_file(**columns: object) -> Callable[[Path], None]:
    """A training file with these columns changed; None leaves one out."""
    return lambda inputs: write_rows(inputs / "train.parquet", **columns)


def written(name: str, text: str = "") -> Callable[[Path], None]:
    """A file with this text."""

    def write(inputs: Path) -> None:
        (inputs / name).parent.mkdir(parents=True, exist_ok=True)
        (inputs / name).write_text(text)

    return write


def deleted(name: str) -> Callable[[Path], None]:
    return lambda inputs: (inputs / name).unlink()


def cut(name: str) -> Callable[[Path], None]:
    """A file that was copied half."""

    def halve(inputs: Path) -> None:
        content = (inputs / name).read_bytes()
        (inputs / name).write_bytes(content[: len(content) // 2])

    return halve


def counted_and_not(inputs: Path) -> None:
    write_rows(inputs / "counted.parquet", __rollout_n__=4)


def smaller_vocabulary(inputs: Path) -> None:
    file = inputs / "model/config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"vocab_size": 5}))


def checkpoint(**differing: int) -> Callable[[Path], None]:
    """A checkpoint of this model in the run's folder, but for what differs: its `ranks`, or a value of its config."""

    def save(inputs: Path) -> None:
        run, ranks = inputs.parent / "run/checkpoints", differing.get("ranks", 1)
        actor = run / "global_step_20/actor"
        actor.mkdir(parents=True)
        for rank in range(ranks):
            (actor / f"model_world_size_{ranks}_rank_{rank}.pt").touch()
        (actor / "huggingface").mkdir()
        config = json.loads((inputs / "model/config.json").read_text()) | differing
        (actor / "huggingface/config.json").write_text(json.dumps(config))
        (run / "latest_checkpointed_iteration.txt").write_text("20")

    return save


_held: list[IO[str]] = []  # open, and so locked, until this process ends


def in_use(inputs: Path) -> None:
    """The run's folder is that of a run that has not ended."""
    (inputs.parent / "run").mkdir()
    _held.append((inputs.parent / "run/.lock").open("w"))
    fcntl.flock(_held[-1], fcntl.LOCK_EX)


ACTOR, ROLLOUT, MODEL = (f"actor_rollout_ref.{part}" for part in ("actor", "rollout", "model"))
EXECUTOR = f"{ROLLOUT}.engine_kwargs.vllm.distributed_executor_backend"
FUNCTION = "reward.custom_reward_function"
OVERLONG = "reward.reward_kwargs.overlong_buffer_cfg"
FIXED = (f"{ACTOR}.use_dynamic_bsz=false", f"{ROLLOUT}.log_prob_micro_batch_size_per_gpu=8")
PENALTY = "+reward.reward_kwargs={max_resp_len:80,overlong_buffer_cfg:{enable:true,len:TOKENS,penalty_factor:1}}"
ASYNC = (
    "trainer.v1.trainer_mode=separate_async",
    "trainer.v1.separate_async.parameter_sync_step=1",
    f"{ROLLOUT}.nnodes=1",
    f"{ROLLOUT}.checkpoint_engine.backend=gloo",
    "ray_kwargs.ray_init.num_gpus=2",
)
RESUME = "trainer.resume_mode=resume_path"

CASES = [
    # What has no Balanced Aggregation
    training("an unknown mode", f"{ACTOR}.loss_agg_mode", f"{ACTOR}.loss_agg_mode=ballanced"),
    training("an unknown aggregation file", "aggregation/ballanced", "aggregation=ballanced"),
    training("groups of one response", f"{ROLLOUT}.n", f"{ROLLOUT}.n=1"),
    training("groups of no size", f"{ROLLOUT}.n", f"{ROLLOUT}.n=null"),
    training("an estimator without groups", "algorithm.adv_estimator", "algorithm.adv_estimator=gae"),
    training(
        "a loss with its own aggregation", f"{ACTOR}.policy_loss.loss_mode", f"{ACTOR}.policy_loss.loss_mode=sapo"
    ),
    training("verl's old trainer", "trainer.use_v1", "trainer.use_v1=false"),
    training("distillation", "distillation.enabled", "distillation.enabled=true"),
    training(
        "rejection inside the actor",
        "algorithm.rollout_correction.rollout_rs",
        "algorithm.rollout_correction.bypass_mode=true",
        "algorithm.rollout_correction.rollout_rs=token_k1",
    ),
    # Misspelt
    command("an unknown recipe", "recipes: arithmetic", "scripts/train.sh", "arithmetics"),
    training("a key that does not exist", f"{ROLLOUT}.nn", f"{ROLLOUT}.nn=4"),
    training("an unknown hardware file", "hardware/2gpu", "hardware=2gpu"),
    training("a model size without a row", "sizes.3b", "run.model_size=3b"),
    training("an unknown estimator", "algorithm.adv_estimator", "algorithm.adv_estimator=gpro"),
    training("an unknown loss", f"{ACTOR}.policy_loss.loss_mode", f"{ACTOR}.policy_loss.loss_mode=vanila"),
    training("an unknown engine", f"{ACTOR}.strategy", f"{ACTOR}.strategy=fsdp3"),
    training("an unknown rollout engine", f"{ROLLOUT}.name", f"{ROLLOUT}.name=vlm"),
    training(
        "seeded responses to prompts that vLLM may compute in parts",
        "actor_rollout_ref.rollout.enable_chunked_prefill",
        f"{ROLLOUT}.agent.default_agent_loop=seeded_token_ids",
    ),
    training("our agent loop without its module", "model.external_lib", "actor_rollout_ref.model.external_lib=null"),
    training("an unknown agent loop", "agent.default_agent_loop", f"{ROLLOUT}.agent.default_agent_loop=token_idz"),
    training(
        "a library in place of ours",
        "actor_rollout_ref.model.external_lib",
        "actor_rollout_ref.model.external_lib=json",
    ),
    training("an unknown trainer", "trainer.v1.trainer_mode", "trainer.v1.trainer_mode=synk"),
    training("an unknown reward manager", "reward.reward_manager.name", "reward.reward_manager.name=dap0"),
    training("an unknown logger", "trainer.logger", "trainer.logger=[console,wandbb]"),
    training("an unknown resume mode", "trainer.resume_mode", "trainer.resume_mode=allways"),
    # Numbers
    training("no prompts a step", "data.train_batch_size", "data.train_batch_size=0"),
    training("half a prompt", f"{ACTOR}.ppo_mini_batch_size", f"{ACTOR}.ppo_mini_batch_size=2.5"),
    training("no response tokens", "data.max_response_length", "data.max_response_length=0"),
    training("a negative learning rate", f"{ACTOR}.optim.lr", f"{ACTOR}.optim.lr=-1e-6"),
    training("a learning rate in words", f"{ACTOR}.optim.lr", f"{ACTOR}.optim.lr=small"),
    training("temperature 0", f"{ROLLOUT}.temperature", f"{ROLLOUT}.temperature=0"),
    training("memory in percent", f"{ROLLOUT}.gpu_memory_utilization", f"{ROLLOUT}.gpu_memory_utilization=90"),
    training("no steps", "trainer.total_training_steps", "trainer.total_training_steps=0"),
    training("no epochs", "trainer.total_epochs", "trainer.total_epochs=0"),
    training("no ranks", "trainer.n_gpus_per_node", "trainer.n_gpus_per_node=0"),
    training("no time for a reward", "reward.timeout", "reward.timeout=0"),
    training("a negative time for a grade", "time_limit", f"{FUNCTION}.reward_kwargs.time_limit=-1"),
    # Sizes that do not fit each other
    training("a mini-batch beyond the step", f"{ACTOR}.ppo_mini_batch_size", f"{ACTOR}.ppo_mini_batch_size=16"),
    training("a mini-batch that leaves a rest", f"{ACTOR}.ppo_mini_batch_size", f"{ACTOR}.ppo_mini_batch_size=3"),
    training(
        "a mini-batch that ranks cannot share",
        f"{ACTOR}.ppo_mini_batch_size",
        f"{ACTOR}.ppo_mini_batch_size=1",
        f"{ROLLOUT}.n=3",
        "trainer.n_gpus_per_node=2",
    ),
    training("micro-batches of no size", "ppo_micro_batch_size_per_gpu", f"{ACTOR}.use_dynamic_bsz=false"),
    training(
        "micro-batches that leave a rest",
        f"{ACTOR}.ppo_micro_batch_size_per_gpu",
        *FIXED,
        f"{ACTOR}.ppo_micro_batch_size_per_gpu=5",
    ),
    training(
        "two kinds of micro-batches",
        f"{ROLLOUT}.log_prob_use_dynamic_bsz",
        f"{ROLLOUT}.log_prob_use_dynamic_bsz=false",
        f"{ROLLOUT}.log_prob_micro_batch_size_per_gpu=8",
    ),
    training(
        "sequences that fit no micro-batch", f"{ACTOR}.ppo_max_token_len_per_gpu", "data.max_response_length=5000"
    ),
    training(
        "sequences that fit no forward pass",
        f"{ROLLOUT}.log_prob_max_token_len_per_gpu",
        f"{ROLLOUT}.log_prob_max_token_len_per_gpu=50",
    ),
    training(
        "sequences beyond the model",
        "max_position_embeddings",
        "data.max_response_length=9000",
        f"{ACTOR}.ppo_max_token_len_per_gpu=10000",
        f"{ROLLOUT}.log_prob_max_token_len_per_gpu=10000",
    ),
    training("sequences beyond the window", f"{ROLLOUT}.max_model_len", f"{ROLLOUT}.max_model_len=64"),
    training(
        "a replica larger than the machine",
        f"{ROLLOUT}.tensor_model_parallel_size",
        f"{ROLLOUT}.tensor_model_parallel_size=2",
    ),
    training(
        "a replica of two ranks in one process",
        EXECUTOR,
        "trainer.n_gpus_per_node=2",
        f"{ROLLOUT}.tensor_model_parallel_size=2",
    ),
    training("a batch beyond the data", "data.train_batch_size", "data.train_batch_size=8192"),
    training("steps beyond the epochs", "trainer.total_epochs", "trainer.total_epochs=1", "data.train_max_samples=80"),
    training("an asynchronous trainer without rollout nodes", f"{ROLLOUT}.nnodes", *ASYNC, f"{ROLLOUT}.nnodes=0"),
    training(
        "an asynchronous trainer that sends no weights",
        f"{ROLLOUT}.checkpoint_engine.backend",
        *ASYNC,
        f"{ROLLOUT}.checkpoint_engine.backend=naive",
    ),
    training(
        "an asynchronous trainer that sends weights over GPUs",
        f"{ROLLOUT}.checkpoint_engine.backend",
        *ASYNC,
        f"{ROLLOUT}.checkpoint_engine.backend=nccl",
    ),
    training(
        "too few CPUs for the ranks of an asynchronous rollout",
        "ray_kwargs.ray_init.num_cpus=8",
        *ASYNC,
        "ray_kwargs.ray_init.num_cpus=7",
    ),
    # Data
    training("a missing data file", "data.train_files", "data.train_files=/nowhere/train.parquet"),
    training("no validation file", "data.val_files", "data.val_files=[]"),
    training("an empty data file", "data.train_files", spoil=written("train.parquet")),
    training("a truncated data file", "data.train_files", spoil=cut("train.parquet")),
    training("a data file without rows", "data.train_files", spoil=training_file(rows=0)),
    training(
        "a data file of another format", "data.train_files", "data.train_files={inputs}/a.csv", spoil=written("a.csv")
    ),
    training(
        "a file named twice", "data.train_files", "data.train_files=[{inputs}/train.parquet,{inputs}/train.parquet]"
    ),
    training("no column of prompts", "data.prompt_key", spoil=training_file(prompt=None)),
    training("prompts that are no messages", "data.prompt_key", spoil=training_file(prompt="1+1=")),
    training(
        "a role that the template refuses",
        "custom_chat_template",
        spoil=training_file(prompt=[{"role": "robot", "content": "1+1="}]),
    ),
    training("no right answers", "reward_model", spoil=training_file(reward_model=None)),
    training("answers without a ground truth", "ground_truth", spoil=training_file(reward_model={"answer": "2"})),
    training("no data source", "data_source", spoil=training_file(data_source=None)),
    training("a data source without a grader", "'astrology'", spoil=training_file(data_source="astrology")),
    training(
        "validation files that do not agree",
        "__rollout_n__",
        "data.val_files=[{inputs}/counted.parquet,{inputs}/validation.parquet]",
        spoil=counted_and_not,
    ),
    training("prompts that are all too long", "data.max_prompt_length", "data.max_prompt_length=4"),
    training(
        "prompts that are all filtered out",
        "data.max_prompt_length",
        "data.max_prompt_length=4",
        "data.filter_overlong_prompts=true",
    ),
    training(
        "an evaluation whose prompts are all cut off",
        "data.val_files",
        "+evaluation=validation_only",
        "data.max_prompt_length=4",
    ),
    # The model
    training("a missing model", f"{MODEL}.path", f"{MODEL}.path=/nowhere/model"),
    training("a model that the hub cannot be asked for", "HF_HUB_OFFLINE", f"{MODEL}.path=Qwen/Qwen3-0.7B"),
    training("a model without a config", "config.json", spoil=deleted("model/config.json")),
    training("a model without weights", "no weights", spoil=deleted("model/model.safetensors")),
    training("truncated weights", "model.safetensors is incomplete", spoil=cut("model/model.safetensors")),
    training("a truncated tokenizer", f"{MODEL}.path", spoil=cut("model/tokenizer.json")),
    training("another model's tokenizer", "has 5 tokens", spoil=smaller_vocabulary),
    training("no chat template", f"{MODEL}.custom_chat_template", spoil=deleted("model/chat_template.jinja")),
    # Rewards
    training("a missing reward file", f"{FUNCTION}.path", f"{FUNCTION}.path=/nowhere/reward.py"),
    training("a missing reward module", f"{FUNCTION}.path", f"{FUNCTION}.path=pkg://no_such.rewards"),
    training(
        "a missing reward function",
        f"{FUNCTION}.name",
        f"{FUNCTION}.path={{inputs}}/reward.py",
        spoil=written("reward.py", "def score(data_source, solution_str, ground_truth, extra_info):\n    return 1.0\n"),
    ),
    training(
        "a reward that is no function",
        f"{FUNCTION}.name",
        f"{FUNCTION}.path={{inputs}}/reward.py",
        spoil=written("reward.py", "compute_score = 1.0\n"),
    ),
    training(
        "a reward file with a syntax error",
        f"{FUNCTION}.path",
        f"{FUNCTION}.path={{inputs}}/reward.py",
        spoil=written("reward.py", "def compute_score(:\n    return 1.0\n"),
    ),
    training("an unknown option of the grader", "time_limt", f"+{FUNCTION}.reward_kwargs.time_limt=9"),
    training(
        "a reward function where verl no longer looks", FUNCTION, "custom_reward_function.path={inputs}/reward.py"
    ),
    training("a penalty where verl no longer looks", OVERLONG, "+reward_model.overlong_buffer.enable=True"),
    training("a penalty that this reward manager lacks", "reward.reward_manager.name", PENALTY.replace("TOKENS", "16")),
    training(
        "a penalty longer than the response",
        f"{OVERLONG}.len",
        PENALTY.replace("TOKENS", "96"),
        "reward.reward_manager.name=dapo",
    ),
    training(
        "groups chosen by no number",
        "algorithm.filter_groups.metric",
        "+algorithm.filter_groups={enable:true,metric:seq_reward}",
    ),
    # The machine
    training("a GPU's device on the CPU platform", "trainer.device", "trainer.device=cuda"),
    training("a recipe for GPUs on a machine without", "trainer.device", "hardware=8gpu"),
    training(
        "more GPUs than there are",
        "trainer.n_gpus_per_node",
        "hardware=1gpu",
        "trainer.n_gpus_per_node=64",
        "ray_kwargs.ray_init.num_cpus=256",
        VERL_PLATFORM="nvidia",
    ),
    training("the CPU's recipe on the GPU platform", "VERL_PLATFORM", VERL_PLATFORM="nvidia"),
    training("an unknown platform", "Unknown platform 'tpu'", VERL_PLATFORM="tpu"),
    training("too few CPUs", "ray_kwargs.ray_init.num_cpus", "ray_kwargs.ray_init.num_cpus=2"),
    training("too few logical GPUs", "ray_kwargs.ray_init.num_gpus", "ray_kwargs.ray_init.num_gpus=0"),
    training("two nodes without a cluster", "trainer.nnodes", "trainer.nnodes=2"),
    training("a cluster that is gone", "RAY_ADDRESS", RAY_ADDRESS="127.0.0.1:1"),
    training(
        "a cluster that left its address",
        "ray_current_cluster",
        "cluster=existing",
        spoil=written("tmp/ray/ray_current_cluster", "127.0.0.1:1"),
        RAY_TMPDIR="{inputs}/tmp",
    ),
    training("wandb online without a key", "WANDB_API_KEY", WANDB_MODE="online", WANDB_API_KEY=None, NETRC="/nowhere"),
    # Where a run is written to, and resumes from
    training("a run folder in a file", "{inputs}/a.csv", "run.dir={inputs}/a.csv/run", spoil=written("a.csv")),
    training("a run folder in use", "run.dir={run} is in use by another process", spoil=in_use),
    training(
        "checkpoints in a file",
        "trainer.default_local_dir",
        "trainer.default_local_dir={inputs}/a.csv/checkpoints",
        spoil=written("a.csv"),
    ),
    training("no checkpoint to go on from", "trainer.resume_from_path", RESUME),
    training(
        "a missing checkpoint",
        "trainer.resume_from_path",
        RESUME,
        "trainer.resume_from_path=/nowhere/global_step_20",
    ),
    training(
        "an incomplete checkpoint",
        "trainer.resume_from_path",
        RESUME,
        "trainer.resume_from_path={inputs}/global_step_20",
        spoil=written("global_step_20/checkpoint.json", '{"complete": false}'),
    ),
    training("checkpoints of two ranks", "n_gpus_per_node", spoil=checkpoint(ranks=2)),
    training("checkpoints of another model", "hidden_size", spoil=checkpoint(hidden_size=256)),
    # The other commands
    command("evaluating what is no model", "config.json", "scripts/evaluate.sh", "{inputs}"),
    command("evaluating by no recipe", "--recipe", "scripts/evaluate.sh", "{inputs}/model"),
    command(
        "sweeping over an unknown aggregation",
        "--aggregations",
        "scripts/sweep.sh",
        "arithmetic",
        "--aggregations",
        "bal",
        "--seeds",
        "1",
    ),
    command(
        "sweeping over a seed twice",
        "--seeds",
        "scripts/sweep.sh",
        "arithmetic",
        "--aggregations",
        "token",
        "--seeds",
        "1",
        "1",
    ),
    command(
        "a sweep with one seed for all",
        "run.seed",
        *("scripts/sweep.sh", "arithmetic", "--aggregations", "token", "--seeds", "1", "2", "run.seed=3"),
    ),
    command("a job for no cluster", "--ray-address", "scripts/submit.sh", "arithmetic", RAY_API_SERVER_ADDRESS=None),
    command(
        "a job without the cluster's token",
        "RAY_AUTH_TOKEN_PATH",
        *("scripts/submit.sh", "arithmetic", "--ray-address", "http://127.0.0.1:1"),
        RAY_AUTH_TOKEN=None,
        RAY_AUTH_TOKEN_PATH="{inputs}/token",
    ),
    command(
        "a job for a cluster that is gone",
        "http://127.0.0.1:1",
        *("scripts/submit.sh", "arithmetic", "--ray-address", "http://127.0.0.1:1", "--wait", "1"),
        RAY_AUTH_TOKEN="0" * 64,
    ),
    command(
        "a node with its token exported", "RAY_AUTH_TOKEN", "scripts/ray_cluster.sh", "head", RAY_AUTH_TOKEN="0" * 64
    ),
    command("an unknown data set", "dapo17k", "balanced_agg", "prepare", "dapo18k", "--out", "{run}"),
    command("comparing what is no run", "{inputs}", "balanced_agg", "compare", "{inputs}"),
    command("inspecting what is not there", "/nowhere", "balanced_agg", "inspect", "/nowhere"),
    command(
        "inspecting what is no rollouts",
        "neither uid nor input",
        "balanced_agg",
        "inspect",
        "{inputs}/train.parquet",
    ),
]


def good_inputs(folder: Path) -> None:
    """A model and data files for the recipe `arithmetic`."""
    from balanced_agg.arithmetic.model import build_model
    from balanced_agg.arithmetic.tokenizer import build_tokenizer

    build_tokenizer().save_pretrained(folder / "model")
    build_model(seed=0).save_pretrained(folder / "model")
    for split in ("train", "validation"):
        write_rows(folder / f"{split}.parquet")


def prepare(case: Case, good: Path, folder: Path) -> Case:
    """Make the case's inputs in an empty folder; the case with their paths filled in."""
    places = {"inputs": folder / "inputs", "run": folder / "run"}
    shutil.copytree(good, places["inputs"])
    case.spoil(places["inputs"])

    def fill(text: str) -> str:
        for name, path in places.items():
            text = text.replace(f"{{{name}}}", str(path))
        return text

    environment = {name: value and fill(value) for name, value in case.environment.items()}
    return replace(case, says=fill(case.says), command=tuple(map(fill, case.command)), environment=environment)
