"""The guard: entry point ``balanced_agg_guard`` of ``verl.plugins``, active under ``BALANCED_AGG_GUARD=1``.

``WRAPPERS`` is all that it wraps; each wrapper's docstring says what verl or vLLM does there and what we change.
Methods of classes that are Ray actors, such as verl's workers, cannot be wrapped: Ray sends copies of the original
functions to the actor's process.
"""

from omegaconf import DictConfig

from balanced_agg.plugin.guard import faults, isolation, loggers, resume, starting, waiting
from balanced_agg.plugin.guard.checkpoints import refuse_incomplete
from balanced_agg.plugin.launch import WRAPPER as LAUNCH_WRAPPER
from balanced_agg.plugin.launch import at_launch
from balanced_agg.plugin.wrapping import Wrapper, misfits, put_in_place, refusal, switched_on

SWITCH = "BALANCED_AGG_GUARD"
TRAINER = "verl.trainer.ppo.v1.trainer_base"
REPLAY_BUFFER = "verl.trainer.ppo.v1.replay_buffer"
REWARD_LOOP = "verl.experimental.reward_loop.reward_loop"
TRACKING = "verl.utils.tracking"
CHECKPOINTS = "verl.utils.checkpoint.checkpoint_manager"
ADAPTER = "verl.workers.rollout.vllm_rollout.vllm_rollout"
TRANSFER = "verl.workers.rollout.vllm_rollout.bucketed_weight_transfer"
ENGINE_CLIENT = "vllm.v1.engine.core_client"

WRAPPERS = (
    LAUNCH_WRAPPER,
    # Faults of grading and of wandb
    Wrapper("verl.trainer.ppo.reward", "load_reward_manager", ("config", ...), faults.limit_reward_function),
    Wrapper(REWARD_LOOP, "RewardLoopManager._init_reward_loop_workers", ("self",), faults.guard_reward_workers),
    Wrapper(TRAINER, "PPOTrainer._compute_advantage", ("self", "batch", ...), faults.check_scores),
    Wrapper(TRACKING, "Tracking.__init__", ("self", ...), loggers.log_offline_if_unreachable),
    # Resume
    Wrapper(CHECKPOINTS, "find_latest_ckpt_path", ("path", ...), resume.find_complete_checkpoint),
    Wrapper(TRAINER, "PPOTrainer._load_checkpoint", ("self",), loggers.note_resumed_step),
    Wrapper(TRAINER, "PPOTrainer.step", ("self", "metrics", "timing_raw"), resume.note_step),
    Wrapper(
        TRAINER,
        "PPOTrainer._save_checkpoint",
        ("self",),
        resume.save_atomically,
        needs=("build_checkpoint_callback",),  # so there is a callback to be called at the end; not in verl 0.9.0
    ),
    Wrapper(TRACKING, "FileLogger.__init__", ("self", ...), loggers.keep_log),
    Wrapper(TRACKING, "FileLogger.log", ("self", "data", "step"), loggers.merge_first_record),
    # Liveness
    Wrapper(
        TRAINER,
        "PPOTrainer.fit",
        ("self", "agent_loop_manager"),
        waiting.watch_rollout,
        needs=("PPOTrainer._rollout_server_managers",),
    ),
    Wrapper(REPLAY_BUFFER, "ReplayBuffer._wait_for_next_poll", ("self", ...), waiting.ping_while_waiting),
    Wrapper(ADAPTER, "ServerAdapter._execute_method", ("self", "method", "non_block", ...), waiting.note_receiver),
    Wrapper(TRANSFER, "BucketedWeightSender._init_socket", ("self",), waiting.expect_answers),
    Wrapper(TRANSFER, "BucketedWeightSender.__init__", ("self", "zmq_handle", ...), isolation.use_own_socket),
    Wrapper(TRANSFER, "BucketedWeightReceiver.__init__", ("self", "zmq_handle", ...), isolation.use_own_socket),
    Wrapper(ENGINE_CLIENT, "AsyncMPClient._call_utility_async", ("self", ...), waiting.fail_with_engine),
)


def _before_launch(config: DictConfig) -> None:
    refuse_incomplete(config)
    # A module that another verl has moved is never imported, so its wrapper would never complain: ask here, once.
    # vLLM may be absent, and is not imported in the driver: what is wrapped there is checked as it is put in place.
    if reasons := misfits(wrapper for wrapper in WRAPPERS if "vllm" not in wrapper.module):
        raise refusal(f"{SWITCH}=1", reasons)
    isolation.lock_folder(config)
    isolation.name_run(config)
    starting.watch(config)


if switched_on(SWITCH):
    put_in_place(WRAPPERS, asked_for=f"{SWITCH}=1")
    at_launch(_before_launch)
