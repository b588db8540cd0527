"""Sizes that must fit each other: steps, mini-batches, micro-batches, ranks."""

from omegaconf import DictConfig, OmegaConf

from balanced_agg.plugin.refusal import Refusal

ACTOR, ROLLOUT, REF = (f"actor_rollout_ref.{part}" for part in ("actor", "rollout", "ref"))
FSDP = f"{ACTOR}.fsdp_config"
EXECUTOR = f"{ROLLOUT}.engine_kwargs.vllm.distributed_executor_backend"
SEPARATE = "separate_async"


def check_batches(config: DictConfig) -> None:
    """Check that a step is a whole number of mini-batches, and that the ranks can share a mini-batch equally.

    verl fills up a step that is not with empty rows, which its own modes count among the sequences that they divide by.
    """
    if config.trainer.get("val_only"):
        return
    key = f"trainer.v1.{OmegaConf.select(config, 'trainer.v1.trainer_mode')}.parameter_sync_step"
    updates = OmegaConf.select(config, key) or 1
    prompts, mini_batch = config.data.train_batch_size, config.actor_rollout_ref.actor.ppo_mini_batch_size
    if prompts % updates:
        raise Refusal("data.train_batch_size", f"={prompts} is no multiple of {key}={updates}", "set it to one that is")
    if (prompts // updates) % mini_batch:
        raise Refusal(
            f"{ACTOR}.ppo_mini_batch_size",
            f"={mini_batch} prompts do not divide the {prompts // updates} of a step "
            f"(data.train_batch_size{f' / {key}' if updates > 1 else ''})",
            divisor_of(prompts // updates, mini_batch),
        )
    responses = mini_batch * config.actor_rollout_ref.rollout.n
    if (ranks := data_parallel_ranks(config)) and responses % ranks:
        raise Refusal(
            f"{ACTOR}.ppo_mini_batch_size",
            f"={mini_batch} prompts x {ROLLOUT}.n={config.actor_rollout_ref.rollout.n} are {responses} responses, "
            f"which {ranks} ranks cannot share equally",
            f"set either so that {ranks} divides them",
        )


def divisor_of(number: int, at_most: int) -> str:
    """The remedy that names the largest divisor of `number` up to `at_most`."""
    largest = next(divisor for divisor in range(min(number, at_most), 0, -1) if number % divisor == 0)
    return f"set it to a divisor, such as {largest}"


def data_parallel_ranks(config: DictConfig) -> int | None:
    """The number of ranks that share a mini-batch; None for engines other than FSDP, which have further dimensions."""
    actor = config.actor_rollout_ref.actor
    if not actor.strategy.startswith("fsdp"):
        return None
    return max(1, all_gpus(config) // (actor.get("ulysses_sequence_parallel_size") or 1))


def all_gpus(config: DictConfig) -> int:
    return config.trainer.nnodes * config.trainer.n_gpus_per_node


def shards_of_a_copy(config: DictConfig) -> int:
    """The ranks that one copy of the actor's weights is spread over; FSDP repeats it in each group of as many."""
    gpus, size = all_gpus(config), OmegaConf.select(config, f"{FSDP}.fsdp_size", default=-1)
    return gpus if size < 0 else min(size, gpus)


def check_parallelism(config: DictConfig) -> None:
    """Check that the GPUs divide into groups that share a sequence or a copy of the weights, and into replicas of the
    rollout engine, each of which has as many processes as ranks.
    """
    gpus = all_gpus(config)
    actor, rollout = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout
    shares = {f"{ACTOR}.ulysses_sequence_parallel_size": actor.get("ulysses_sequence_parallel_size") or 1}
    if actor.strategy.startswith("fsdp"):
        shares[f"{FSDP}.fsdp_size"] = shards_of_a_copy(config)
    if OmegaConf.select(config, "trainer.v1.trainer_mode") != SEPARATE:  # whose rollout has GPUs of its own
        key = f"{ROLLOUT}.tensor_model_parallel_size"
        if (replicas := rollout.get("data_parallel_size") or 1) > 1:
            key += f" x {ROLLOUT}.data_parallel_size"
        shares[key] = rollout.tensor_model_parallel_size * replicas
    for key, share in shares.items():
        if share == 0 or gpus % share:
            what = f"={share} does not divide trainer.nnodes x trainer.n_gpus_per_node = {gpus} GPUs"
            raise Refusal(key, what, divisor_of(gpus, max(share, 1)))
    executor, ranks = OmegaConf.select(config, EXECUTOR), rollout.tensor_model_parallel_size
    if ranks > 1 and str(executor).endswith("UniProcExecutor"):
        what = f"={executor} holds one rank, and {ROLLOUT}.tensor_model_parallel_size={ranks}"
        raise Refusal(EXECUTOR, what, "set it to mp")


def check_separate_async(config: DictConfig) -> None:
    """Check that separate_async, whose rollouts have GPUs of their own, has some, and a way to send weights there."""
    if OmegaConf.select(config, "trainer.v1.trainer_mode") != SEPARATE:
        return
    rollout, updates = config.actor_rollout_ref.rollout, config.trainer.v1[SEPARATE].parameter_sync_step
    why = f"trainer.v1.trainer_mode={SEPARATE}"
    for name in ("nnodes", "n_gpus_per_node"):
        if rollout[name] < 1:
            what = f"={rollout[name]}, but with {why} the rollout has GPUs of its own"
            raise Refusal(f"{ROLLOUT}.{name}", what, "set it to 1 or more")
    backend, on_cpu = rollout.checkpoint_engine.backend, config.trainer.device == "cpu"
    if backend == "naive" or on_cpu != (backend == "gloo"):
        raise Refusal(
            f"{ROLLOUT}.checkpoint_engine.backend",
            f"={backend}, but with {why} weights go to other ranks",
            f"set it to {'gloo, which needs no GPU' if on_cpu else 'nccl, or another of verl that sends them'}",
        )
    prompts, mini_batch = config.data.train_batch_size, config.actor_rollout_ref.actor.ppo_mini_batch_size
    if prompts != updates * mini_batch:
        raise Refusal(
            "data.train_batch_size",
            f"={prompts}, but with {why} it is parameter_sync_step={updates} of that trainer x "
            f"{ACTOR}.ppo_mini_batch_size={mini_batch}",
            f"set it to {updates * mini_batch}",
        )


def check_micro_batches(config: DictConfig) -> None:
    """Check that the responses of a rank are a whole number of micro-batches, where these have a fixed size."""
    actor, rollout, ref = (config.actor_rollout_ref[part] for part in ("actor", "rollout", "ref"))
    if actor.use_dynamic_bsz != rollout.log_prob_use_dynamic_bsz:
        raise Refusal(
            f"{ROLLOUT}.log_prob_use_dynamic_bsz",
            f"={rollout.log_prob_use_dynamic_bsz} with {ACTOR}.use_dynamic_bsz={actor.use_dynamic_bsz}: the actor has "
            "one way to make micro-batches",
            "set both to the same",
        )
    ranks = data_parallel_ranks(config)
    if actor.use_dynamic_bsz or not ranks or config.trainer.get("val_only"):
        return
    mini_batch = actor.ppo_mini_batch_size * rollout.n // ranks
    step = config.data.train_batch_size * rollout.n // ranks
    sizes = [
        (f"{ACTOR}.ppo_micro_batch_size_per_gpu", actor.ppo_micro_batch_size_per_gpu, mini_batch, "of a mini-batch"),
        (f"{ROLLOUT}.log_prob_micro_batch_size_per_gpu", rollout.log_prob_micro_batch_size_per_gpu, step, "of a step"),
    ]
    if config.algorithm.use_kl_in_reward or actor.use_kl_loss:
        key = f"{REF}.log_prob_micro_batch_size_per_gpu"
        sizes.append((key, ref.log_prob_micro_batch_size_per_gpu, step, "of a step"))
    for key, size, responses, of_what in sizes:
        if size and responses % size:
            what = f"={size} does not divide the {responses} responses {of_what} on a rank"
            raise Refusal(key, what, divisor_of(responses, size))


def check_token_budget(config: DictConfig) -> None:
    """Check that a micro-batch has room for the longest sequence; verl finds out only after the first rollout."""
    actor, rollout = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout
    if not actor.use_dynamic_bsz:
        return
    longest = config.data.max_prompt_length + config.data.max_response_length
    ranks_a_sequence = actor.get("ulysses_sequence_parallel_size") or 1
    for key, budget in (
        (f"{ACTOR}.ppo_max_token_len_per_gpu", actor.ppo_max_token_len_per_gpu),
        (f"{ROLLOUT}.log_prob_max_token_len_per_gpu", rollout.log_prob_max_token_len_per_gpu),
    ):
        if (budget or 0) * ranks_a_sequence < longest:
            raise Refusal(
                key,
                f"={budget} (x {ranks_a_sequence} GPUs a sequence) is less than data.max_prompt_length + "
                f"data.max_response_length = {longest}",
                f"set it to {-(-longest // ranks_a_sequence)} or more, or shorten the sequences",
            )
