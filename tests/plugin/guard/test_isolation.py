"""Two runs at the same time have neither a folder nor their weights in common."""

import errno
import fcntl
import inspect
import json
import os

import pytest
from omegaconf import OmegaConf

from balanced_agg.plugin.guard import isolation
from balanced_agg.plugin.guard.isolation import RUN_ID, lock_folder, name_run
from balanced_agg.plugin.refusal import Refusal
from balanced_agg.runs.lock import lock

# Two runs, whose Ray jobs have one number, send at once: each sender waits at its socket before a receiver comes.
TWO_TRANSFERS = inspect.cleandoc("""
    import asyncio, json, os, sys, threading, time
    from uuid import uuid4

    import torch

    import verl
    from verl.workers.rollout.vllm_rollout.bucketed_weight_transfer import BucketedWeightReceiver, BucketedWeightSender

    handle = f"ipc:///tmp/rl-colocate-zmq-{uuid4().hex[:8]}-replica-0-rank-0.sock"
    received, senders, receivers = {}, {}, {}
    for run, weight in (("first", 1.0), ("second", 2.0)):
        os.environ["BALANCED_AGG_RUN_ID"] = run
        senders[weight] = BucketedWeightSender(handle, bucket_size_mb=1, use_shm=True)
        receivers[weight] = BucketedWeightReceiver(handle, device=torch.device("cpu"), use_shm=True)

    def send(weight):
        asyncio.run(senders[weight].async_send_weights(iter([("weight", torch.tensor([weight]))])))

    def receive(weight):
        receivers[weight].receive_weights(
            lambda weights, is_last: received.update({weight: [float(value) for _, value in weights]})
        )

    def start(call, weight):
        thread = threading.Thread(target=call, args=(weight,), daemon=True)
        thread.start()
        return thread

    threads = []
    for weight, sender in senders.items():
        threads.append(start(send, weight))
        while sender.socket is None:
            time.sleep(0.01)
    threads += [start(receive, weight) for weight in receivers]
    for thread in threads:
        thread.join(timeout=20)
    print(json.dumps({"received": received, "left": [thread.is_alive() for thread in threads]}), flush=True)
    os._exit(0)
""")


@pytest.mark.slow
def test_two_runs_whose_jobs_have_one_number_each_get_their_own_weights(fresh_process):
    done = fresh_process(TWO_TRANSFERS, BALANCED_AGG_GUARD="1", VERL_PLATFORM="cpu")
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result == {"received": {"1.0": [1.0], "2.0": [2.0]}, "left": [False] * 4}


@pytest.mark.parametrize("own", [{}, {"runtime_env": None}, {"runtime_env": {"env_vars": {"WANDB_MODE": "offline"}}}])
def test_each_launch_has_an_id_of_its_own_beside_the_users_environment(own):
    def variables() -> dict[str, str]:
        config = OmegaConf.create({"ray_kwargs": {"ray_init": {"num_cpus": None, **own}}})
        OmegaConf.set_struct(config, True)
        name_run(config)
        return OmegaConf.to_container(config.ray_kwargs.ray_init.runtime_env.env_vars)

    first, second = variables(), variables()
    assert first.pop(RUN_ID) != second.pop(RUN_ID)
    assert first == second == ((own.get("runtime_env") or {}).get("env_vars") or {})


def ours(folder, save_freq=20):
    return OmegaConf.create({"run": {"dir": f"{folder}"}, "trainer": {"save_freq": save_freq}})


def foreign(folder, save_freq=20):
    return OmegaConf.create({"trainer": {"default_local_dir": f"{folder}", "save_freq": save_freq}})


@pytest.fixture(autouse=True)
def locked(monkeypatch):
    """As in a process that has locked nothing yet."""
    own = {}
    monkeypatch.setattr(isolation, "_locked", own)
    yield own
    for file in own.values():
        os.close(file)


@pytest.mark.parametrize(
    ("config", "key"),
    [(ours, "run.dir"), (lambda folder: ours(folder, -1), "run.dir"), (foreign, "trainer.default_local_dir")],
)
def test_a_folder_is_that_of_one_process_which_may_run_there_again(config, key, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    elsewhere = lock(run / ".lock")
    with pytest.raises(Refusal, match=f"{key}={run} is in use by process {os.getpid()} on .*another folder"):
        lock_folder(config(run))
    lock_folder(config(tmp_path / "other"))
    os.close(elsewhere)
    for _ in range(2):
        lock_folder(config(run))
        with pytest.raises(BlockingIOError):
            lock(run / ".lock")


def test_a_run_that_keeps_nothing_locks_and_makes_no_folder(tmp_path):
    for _ in range(2):
        lock_folder(foreign(tmp_path / "run", save_freq=-1))
        lock_folder(foreign("hdfs://host/run"))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_is_refused_with_its_key(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(Refusal, match=r"trainer\.default_local_dir=.* cannot be written"):
        lock_folder(foreign(tmp_path / "file/run"))


def test_a_file_system_without_locks_gets_a_warning(tmp_path, monkeypatch, caplog):
    def unsupported(file, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    lock_folder(ours(tmp_path))
    assert f"{tmp_path} is on a file system without locks" in caplog.text
