"""What of verl is wrapped so that a killed run ends, and goes on from its last whole checkpoint.

    wrapped                                      why
    find_latest_ckpt_path                        it trusts a file that can be torn: the last whole checkpoint instead
    utils.config.validate_config                 refuse a torn trainer.resume_from_path before Ray starts
    PPOTrainer._load_checkpoint                  from here on it is known where the run goes on
    PPOTrainer.step                              only here are a step's metrics at hand before its checkpoint is saved
    PPOTrainer._save_checkpoint                  mark what is whole; delete old checkpoints after that, not before
    tracking.FileLogger.__init__                 it wipes its file: cut it back to where the run goes on instead
    tracking.FileLogger.log                      the first record may be of the checkpoint's step: make them one
    PPOTrainer.fit                               agent loops and vLLM servers are known here: watch them, because
    ReplayBuffer._wait_for_next_poll             it waits for ever for the rollouts of one that has died, or, where
                                                 failed groups are replaced, asks for others for ever
    ServerAdapter._execute_method                vLLM's receipt of new weights is started here, and
    BucketedWeightSender._init_socket            it waits for ever for the answer of a vLLM process that has died
    vLLM's AsyncMPClient._call_utility_async     so does a call to vLLM's engine that is open as the engine dies

Checkpoints that are saved asynchronously (``checkpoint.async_save``) are left to verl: it knows when they are whole.
"""

import copy
import io
import json
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from weakref import WeakKeyDictionary

from balanced_agg.plugin.guard import checkpoints, run_log
from balanced_agg.runs.file_log import is_number

# Below verl's logger, which verl keeps audible in its driver whatever other libraries do to the root logger.
logger = logging.getLogger("verl.balanced_agg")

_went_on_from: ContextVar[tuple[int | None, dict]] = ContextVar("balanced_agg_went_on_from", default=(None, {}))
_receiver: ContextVar[Any] = ContextVar("balanced_agg_receiver", default=None)
_logs: WeakKeyDictionary = WeakKeyDictionary()  # FileLogger -> what its file holds, until its first record
_steps: WeakKeyDictionary = WeakKeyDictionary()  # PPOTrainer -> batch, metrics and start of the step in progress
_watches: WeakKeyDictionary = WeakKeyDictionary()  # ReplayBuffer -> Watch of the actors that fill it


def _last_whole_checkpoint(wrapped: Callable, instance: None, args: tuple, kwargs: dict) -> str | None:
    def find(path: str | None, *further: Any, **named: Any) -> str | None:
        if path is None:
            return wrapped(path, *further, **named)
        run = Path(path)
        torn = checkpoints.torn(run)
        for name, reason in torn.items():
            logger.warning("the checkpoint %s is skipped: %s", run / name, reason)
        if whole := checkpoints.whole(run):
            return str(whole[-1].folder)
        try:
            found = wrapped(path, *further, **named)
        except ValueError as error:
            if not torn:
                raise ValueError(
                    f"{run}/latest_checkpointed_iteration.txt is torn, so the last whole checkpoint is not known; name "
                    "one with trainer.resume_mode=resume_path trainer.resume_from_path=…/global_step_N"
                ) from error
            found = None
        if torn and (found is None or Path(found).name in torn):  # the first marked one was cut short
            found = max(map(str, checkpoints.unmarked(run)), key=checkpoints.step, default=None)
        if found is not None:
            logger.warning("%s was saved without balanced_agg: whether it is whole is not known", found)
        return found

    return find(*args, **kwargs)


def _refuse_torn(wrapped: Callable, instance: None, args: tuple, kwargs: dict) -> None:
    trainer = (kwargs["config"] if "config" in kwargs else args[0]).trainer
    if trainer.resume_mode == "resume_path" and trainer.resume_from_path:
        reason = checkpoints.what_is_amiss(Path(trainer.resume_from_path))
        if reason:
            raise ValueError(f"trainer.resume_from_path={trainer.resume_from_path}: {reason}; name another checkpoint")
    wrapped(*args, **kwargs)


def _note_where_it_goes_on(wrapped: Callable, trainer: Any, args: tuple, kwargs: dict) -> None:
    wrapped(*args, **kwargs)
    config = trainer.config.trainer
    folder = Path(config.default_local_dir, f"global_step_{trainer.global_steps}")
    if config.resume_mode == "resume_path":
        folder = Path(config.resume_from_path)
    _went_on_from.set((trainer.global_steps, checkpoints.read(folder).metrics))


def _note_step(wrapped: Callable, trainer: Any, args: tuple, kwargs: dict) -> Any:
    def step(metrics: dict, timing_raw: dict) -> Any:
        start = time.perf_counter()
        batch = wrapped(metrics, timing_raw)
        _steps[trainer] = batch, metrics, start
        return batch

    return step(*args, **kwargs)


def _save_whole(wrapped: Callable, trainer: Any, args: tuple, kwargs: dict) -> None:
    if trainer.config.actor_rollout_ref.actor.get("checkpoint", {}).get("async_save", False):
        return wrapped(*args, **kwargs)
    run = Path(trainer.config.trainer.default_local_dir)
    folder = run / f"global_step_{trainer.global_steps}"
    keep = checkpoints.to_keep(trainer.config.trainer, trainer.use_critic)
    metrics = _metrics_so_far(trainer)
    callback = trainer.checkpoint_callback

    def on_save(**saved: Any) -> None:  # verl calls it once everything is written
        checkpoints.complete(folder, metrics)
        callback.on_save(**saved)

    checkpoints.begin(folder)
    trainer.checkpoint_callback = SimpleNamespace(on_save=on_save)
    try:
        with _verl_keeping(trainer.config.trainer, checkpoints.most_on_disk(keep, guarded=True)):
            wrapped(*args, **kwargs)
    finally:
        trainer.checkpoint_callback = callback
    checkpoints.prune(run, keep)


@contextmanager
def _verl_keeping(config: Any, keep: int | None) -> Iterator[None]:
    """One more than asked for: verl's workers delete before the new checkpoint is whole. Where the driver sees their
    files it deletes the rest itself; on a node that keeps its shards to itself, the workers' limit is the only one."""
    ours = {"remove_previous_ckpt_in_save": False, "max_actor_ckpt_to_keep": keep, "max_critic_ckpt_to_keep": keep}
    asked_for = {key: config[key] for key in ours if key in config}
    config.update({key: ours[key] for key in asked_for})
    try:
        yield
    finally:
        config.update(asked_for)


def _metrics_so_far(trainer: Any) -> dict[str, Any]:
    """Of the step whose checkpoint is being saved; verl logs it when weights are synced and validation is done."""
    import orjson

    if trainer not in _steps:  # a trainer with steps of its own
        return {}
    batch, metrics, start = _steps[trainer]
    beside = copy.copy(trainer)  # one metric accumulates over steps, and this step is not to count twice
    beside._rollout_moe_lb_metrics_accumulator = copy.deepcopy(trainer._rollout_moe_lb_metrics_accumulator)
    metrics, timing = dict(metrics), trainer.timing_raw | {"step": time.perf_counter() - start}
    epoch = (trainer.global_steps - 1) // trainer.steps_per_epoch
    beside._compute_metrics(batch, metrics, timing, global_steps=trainer.global_steps, epoch=epoch)
    numbers = json.loads(orjson.dumps(metrics, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS))
    return {name: value for name, value in numbers.items() if is_number(value)}


def _keep_log(wrapped: Callable, instance: Any, args: tuple, kwargs: dict) -> None:
    tracking = sys.modules["verl.utils.tracking"]
    # The path is known to verl's __init__ alone, which opens it by name: for that call, the name is ours.
    tracking.open = lambda path, mode, **options: open(path, mode.replace("wb", "ab"), **options)
    try:
        wrapped(*args, **kwargs)
    finally:
        del tracking.open
    path = Path(instance.filepath)
    step, metrics = _went_on_from.get()
    if path.is_file() and (path.stat().st_size or metrics):
        _logs[instance] = run_log.cut_back(path, step, metrics)
        _reopen(instance)


def _reopen(file_logger: Any) -> None:
    file_logger.fp.close()
    file_logger.fp = open(file_logger.filepath, "ab", buffering=0)


def _merge_first_record(wrapped: Callable, instance: Any, args: tuple, kwargs: dict) -> None:
    steps = _logs.pop(instance, None)
    if steps is None:
        return wrapped(*args, **kwargs)
    file, instance.fp = instance.fp, io.BytesIO()
    wrapped(*args, **kwargs)  # the record in verl's own words
    record, instance.fp = json.loads(instance.fp.getvalue()), file
    run_log.write(Path(instance.filepath), run_log.with_first_record(steps, record["step"], record["data"]))
    _reopen(instance)


def _watch_rollout(wrapped: Callable, trainer: Any, args: tuple, kwargs: dict) -> None:
    from balanced_agg.plugin.guard.waiting import Watch, check_engine

    agent_loops = kwargs["agent_loop_manager"] if "agent_loop_manager" in kwargs else args[0]
    replicas = [replica for manager in trainer._rollout_server_managers() for replica in manager.get_replicas()]
    servers = [server for replica in replicas for server in replica.servers]
    _watches[trainer.replay_buffer] = Watch(
        [
            ("an agent loop worker", worker.__ray_ready__.remote)
            for worker in getattr(agent_loops, "agent_loop_workers", [])
        ]
        + [("a vLLM server", partial(server.__ray_call__.remote, check_engine)) for server in servers]
    )
    wrapped(*args, **kwargs)


def _look_while_waiting(wrapped: Callable, replay_buffer: Any, args: tuple, kwargs: dict) -> float:
    if replay_buffer in _watches:
        _watches[replay_buffer].look()
    return wrapped(*args, **kwargs)


async def _note_receiver(wrapped: Callable, rollout: Any, args: tuple, kwargs: dict) -> Any:
    future = await wrapped(*args, **kwargs)
    _receiver.set(future if kwargs.get("non_block") else None)
    return future


def _expect_answers(wrapped: Callable, sender: Any, args: tuple, kwargs: dict) -> None:
    from balanced_agg.plugin.guard.waiting import AnsweredSocket

    wrapped(*args, **kwargs)
    if (receiver := _receiver.get()) is not None:
        sender.socket = AnsweredSocket(sender.socket, receiver)


async def _fail_with_engine(wrapped: Callable, client: Any, args: tuple, kwargs: dict) -> Any:
    from balanced_agg.plugin.guard.waiting import while_alive

    return await while_alive(wrapped(*args, **kwargs), client)


_TRAINER = "verl.trainer.ppo.v1.trainer_base"
WRAPPERS = (
    ("verl.utils.checkpoint.checkpoint_manager", "find_latest_ckpt_path", _last_whole_checkpoint),
    ("verl.utils.config", "validate_config", _refuse_torn),
    (_TRAINER, "PPOTrainer._load_checkpoint", _note_where_it_goes_on),
    (_TRAINER, "PPOTrainer.step", _note_step),
    (_TRAINER, "PPOTrainer._save_checkpoint", _save_whole),
    ("verl.utils.tracking", "FileLogger.__init__", _keep_log),
    ("verl.utils.tracking", "FileLogger.log", _merge_first_record),
    (_TRAINER, "PPOTrainer.fit", _watch_rollout),
    ("verl.trainer.ppo.v1.replay_buffer", "ReplayBuffer._wait_for_next_poll", _look_while_waiting),
    ("verl.workers.rollout.vllm_rollout.vllm_rollout", "ServerAdapter._execute_method", _note_receiver),
    (
        "verl.workers.rollout.vllm_rollout.bucketed_weight_transfer",
        "BucketedWeightSender._init_socket",
        _expect_answers,
    ),
    ("vllm.v1.engine.core_client", "AsyncMPClient._call_utility_async", _fail_with_engine),
)
