"""The checkpoint engine ``gloo`` carries weights from trainer ranks to rollout workers, each a process, bit for bit."""

import asyncio
import os

import pytest
import torch

from balanced_agg.plugin.cpu.gloo_checkpoint_engine import GlooCheckpointEngine

pytestmark = pytest.mark.slow

BUCKET = 1024  # bytes
TRANSFERS = 2


@pytest.fixture
def start(processes_with_verl):
    """Starts a process that calls a function with these arguments and its end of a pipe, and gives the other end."""

    def start(function, *arguments):
        here, there = processes_with_verl.Pipe()
        processes_with_verl.Process(target=function, args=(*arguments, there), daemon=True).start()
        there.close()
        return here

    return start


def weights(transfer: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(transfer)
    return {
        "bfloat16": torch.randn(7, 3, generator=generator).bfloat16(),
        "float8": torch.randn(16, generator=generator).to(torch.float8_e4m3fn),
        "larger than a bucket": torch.randn(BUCKET, generator=generator),
        "transposed": torch.randn(5, 4, generator=generator).T,
        "not a number": torch.tensor([float("nan"), -0.0]),
        "scalar": torch.tensor(transfer),
        "empty": torch.empty(0, 8),
        "parameter": torch.nn.Parameter(torch.ones(2)),
    }


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    one_bytes, other_bytes = (t.detach().contiguous().view(-1).view(torch.uint8) for t in (one, other))
    return (one.dtype, one.shape) == (other.dtype, other.shape) and torch.equal(one_bytes, other_bytes)


def take_part(trainer: bool, rank: int, driver) -> None:
    """What verl calls in a trainer rank or a rollout worker; tells the driver the weights that were sent or arrived."""
    engine = GlooCheckpointEngine(bucket_size=BUCKET, is_master=trainer and rank == 0)
    for transfer in range(TRANSFERS):
        driver.send(engine.prepare())
        engine.init_process_group(**driver.recv())
        driver.send(asyncio.run(send(engine, transfer) if trainer else receive(engine, transfer)))
        assert driver.recv() == "all have ended"
        engine.finalize()


async def send(engine: GlooCheckpointEngine, transfer: int) -> list[str]:
    gathered = []

    def gather():
        for name, weight in weights(transfer).items():
            gathered.append(name)
            yield name, weight

    await engine.send_weights(gather(), global_steps=transfer)
    return gathered


async def receive(engine: GlooCheckpointEngine, transfer: int) -> list[str]:
    sent = weights(transfer)
    return [name async for name, weight in engine.receive_weights(transfer) if same_bits(weight, sent[name])]


@pytest.mark.parametrize(("trainer_ranks", "rollout_workers"), [(1, 2), (2, 1)])
def test_all_weights_arrive_bit_for_bit_at_every_transfer(start, trainer_ranks, rollout_workers):
    workers = [start(take_part, True, rank) for rank in range(trainer_ranks)]
    workers += [start(take_part, False, rank) for rank in range(rollout_workers)]
    for transfer in range(TRANSFERS):
        metadata = [worker.recv() for worker in workers]
        trainer, rollout = GlooCheckpointEngine.build_topology(trainer_ranks, rollout_workers, metadata)
        for rank, worker in enumerate(workers):
            worker.send({key: (trainer[key] + rollout[key])[rank] for key in trainer})
        # Also in trainer ranks that do not send, since to gather a weight takes all of them.
        assert [worker.recv() for worker in workers] == [list(weights(transfer))] * len(workers)
        for worker in workers:
            worker.send("all have ended")


def send_one_and_die(driver) -> None:
    engine = GlooCheckpointEngine(bucket_size=BUCKET, is_master=True)
    address = engine.prepare()
    driver.send(address)

    def gather():
        yield "weight", torch.ones(2)
        assert driver.recv() == "it has arrived"
        os._exit(1)

    engine.init_process_group(0, 2, address)
    asyncio.run(engine.send_weights(gather()))


def test_a_rollout_worker_whose_trainer_has_died_raises(start):
    trainer = start(send_one_and_die)
    engine = GlooCheckpointEngine(bucket_size=BUCKET)
    engine.init_process_group(1, 2, trainer.recv())

    async def receive_all():
        async for _ in engine.receive_weights():
            trainer.send("it has arrived")

    with pytest.raises(torch.distributed.DistError):
        asyncio.run(receive_all())
