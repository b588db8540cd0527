"""Loaded into every verl process of a test run: another aggregation mode and micro-batch split at every step.

With a learning rate of 0 and one recorded batch replayed at every step, a single launch then measures the gradient
norm under each of SETTINGS through the whole pipeline, instead of one launch for each.
"""

from tests.wrapping import wrap_when_imported

MODES = ("balanced", "group-token-mean", "token-mean", "seq-mean-token-mean")
# A rule of a user's file, from the working directory, and one with all that a mode may have behind it.
FURTHER_MODES = ("tests/end_to_end/user_rule.py:root", "sign-weights:0.5@equal-mass")
# Responses a micro-batch, or tokens a micro-batch under dynamic batch sizes.
SPLITS = ({"micro_batch_size_per_gpu": 2}, {"micro_batch_size_per_gpu": 4}, {"max_token_len_per_gpu": 200})
SETTINGS = [(mode, split) for mode in MODES for split in SPLITS] + [(mode, SPLITS[-1]) for mode in FURTHER_MODES]


def _set_mode_in_driver(wrapped, trainer, args, kwargs):
    trainer.config.actor_rollout_ref.actor.loss_agg_mode = SETTINGS[trainer.global_steps - 1][0]
    return wrapped(*args, **kwargs)


def _set_mode_and_split_in_worker(wrapped, worker, args, kwargs):
    worker.test_step = getattr(worker, "test_step", 0) + 1
    mode, split = SETTINGS[worker.test_step - 1]
    # Both configs are frozen dataclasses.
    object.__setattr__(worker.actor.loss_fn.keywords["config"], "loss_agg_mode", mode)
    for key, value in ({"use_dynamic_bsz": "max_token_len_per_gpu" in split} | split).items():
        object.__setattr__(worker.actor.engine_config, key, value)
    return wrapped(*args, **kwargs)


wrap_when_imported("verl.trainer.ppo.v1.trainer_base", "PPOTrainer._step_once", _set_mode_in_driver)
wrap_when_imported("verl.workers.engine_workers", "ActorRolloutRefWorker.update_actor", _set_mode_and_split_in_worker)
