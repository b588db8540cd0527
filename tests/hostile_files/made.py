"""Files that somebody hands over with something else in mind: what the cases of cases.py are made of."""

import json
import os
import pickle
import struct
import zlib
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

from balanced_agg.plugin.guard import checkpoints
from tests.composed import write_rows
from tests.data.sources import write_jsonl
from tests.runs.made_runs import ACCURACY, make_run, write_config, write_log

# An escape sequence, an OSC that sets a title, C1's own of both, a bell, a line of its own, bidirectional controls.
ESCAPES = "\x1b[31m\x1b]0;owned\x07\x9b31m\x9d0;owned\x9c\r\n\u202e\u2066\u200f\x08\x7fend"
NESTED = "[" * 100_000
RUN = "hostile-balanced-seed7"
CHECKPOINT = "run/checkpoints/global_step_1"
ACTOR = f"{CHECKPOINT}/actor"
SHARD = f"{ACTOR}/model_world_size_1_rank_0.pt"

Make = Callable[[Path], None]


class Executes:
    """Unpickled, it leaves a file `executed` in the working directory."""

    def __reduce__(self) -> tuple:
        return os.system, ("touch executed",)


def write(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogateescape"))


def file(name: str, content: str | bytes) -> Make:
    return lambda folder: write(folder / name, content)


def fifo(name: str, *first: Make) -> Make:
    """A FIFO to which nobody writes."""

    def make(folder: Path) -> None:
        for step in first:
            step(folder)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return make


def endless(name: str, *first: Make) -> Make:
    """A link to a device that never ends."""

    def make(folder: Path) -> None:
        for step in first:
            step(folder)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to("/dev/zero")

    return make


def both(*steps: Make) -> Make:
    def make(folder: Path) -> None:
        for step in steps:
            step(folder)

    return make


# Runs to compare


def log(folder: Path) -> None:
    write_log(folder / RUN / "metrics.jsonl", [(0, {ACCURACY: 0.5}), (4, {ACCURACY: 0.75, "critic/score/mean": 0.5})])


def config(text: str | bytes) -> Make:
    """A good log, and beside it this config."""
    return both(log, file(f"{RUN}/.hydra/config.yaml", text))


def config_with(further: str = "", **changed: str) -> Make:
    """A good log, and beside it a good config in which these values stand in place of `NAME: …`, and `further` text."""

    def make(folder: Path) -> None:
        log(folder)
        write_config(folder / RUN, "balanced", 7)
        path = folder / RUN / ".hydra/config.yaml"
        lines = []
        for line in path.read_text().splitlines():
            key = line.split(":")[0]
            lines.append(f"{key}: {changed[key.strip()]}" if key.strip() in changed else line)
        path.write_text("\n".join([*lines, further]) + "\n")

    return make


def metrics(*lines: Any) -> Make:
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    return both(config_with(), file(f"{RUN}/metrics.jsonl", text))


def good_runs(folder: Path) -> None:
    for mode in ("balanced", "token-mean"):
        make_run(folder / "good", mode)


def events(*payloads: bytes) -> bytes:
    """A TensorBoard file of these records."""
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

    content = b""
    for payload in payloads:
        length = struct.pack("<Q", len(payload))
        content += length + struct.pack("<I", masked_crc32c(length))
        content += payload + struct.pack("<I", masked_crc32c(payload))
    return content


def tensor_of_shape(*shape: int, tag: str = "x") -> bytes:
    """An event with a tensor of this shape, written as one number."""
    from tensorboard.compat.proto.event_pb2 import Event

    event = Event(step=1)
    value = event.summary.value.add(tag=tag)
    value.metadata.plugin_data.plugin_name = "scalars"
    value.tensor.dtype = 1
    value.tensor.float_val.append(1.0)
    for size in shape:
        value.tensor.tensor_shape.dim.add(size=size)
    return event.SerializeToString()


def scalar(tag: str) -> bytes:
    from tensorboard.compat.proto.event_pb2 import Event

    event = Event(step=1)
    event.summary.value.add(tag=tag, simple_value=1.0)
    return event.SerializeToString()


def wandb_file(name: str = RUN, config: str = "{}", nested: int = 0, key: str = "x", value: str = "1") -> bytes:
    """A file of wandb's with a run of this name, a config under `run` (JSON), and one logged metric."""
    from wandb.proto.wandb_internal_pb2 import Record

    run, history = Record(), Record()
    run.run.display_name, run.run.run_id = name, "abc"
    run.run.config.update.add(key="run", value_json=config)
    run.run.config.update.add(key="actor_rollout_ref", value_json='{"actor": {"loss_agg_mode": "balanced"}}')
    if nested:
        run.run.config.update.add(nested_key=["a"] * nested, value_json="1")
    history.history.step.num = 1
    history.history.item.add(key=key, value_json=value)
    content, block = b":W&B" + bytes(3), 32768
    for record in (run, history):
        payload, first = record.SerializeToString(), True
        while payload or first:
            left = block - len(content) % block
            if left < 7:
                content += bytes(left)
                continue
            part, payload = payload[: left - 7], payload[left - 7 :]
            kind = bytes([(1 if first else 4) if not payload else (2 if first else 3)])
            content += struct.pack("<IH", zlib.crc32(kind + part), len(part)) + kind + part
            first = False
    return content


# Checkpoints to evaluate


def checkpoint(state: Any = None, raw: bytes | None = None, overrides: str = "[]", **changed: str) -> Make:
    """A checkpoint of one rank, in the folder of a run that was made with these overrides.

    Args:
        state: what its shard holds; a small tensor by default.
        raw: the shard's bytes instead.
        changed: text of fsdp_config.json (`fsdp`), of the model's config.json (`model`), of hydra.yaml (`hydra`).
    """

    def make(folder: Path) -> None:
        import torch

        (folder / ACTOR).mkdir(parents=True)
        if raw is None:
            torch.save({"w": torch.zeros(2)} if state is None else state(), folder / SHARD)
        else:
            (folder / SHARD).write_bytes(raw)
        write(folder / ACTOR / "fsdp_config.json", changed.get("fsdp", '{"world_size": 1}'))
        small = '{"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "num_hidden_layers": 1}'
        write(folder / ACTOR / "huggingface/config.json", changed.get("model", small))
        write(folder / "run/.hydra/hydra.yaml", changed.get("hydra", "hydra: {job: {config_name: arithmetic}}\n"))
        write(folder / "run/.hydra/overrides.yaml", overrides)

    return make


def executing_state() -> dict[str, Any]:
    import torch

    return {"w": torch.zeros(2), "x": Executes()}


def expanded_state() -> dict[str, Any]:
    import torch

    return {"w": torch.zeros(1).expand(10**6, 10**6)}


class Bytes:
    def __reduce__(self) -> tuple:
        return bytearray, (10**11,)


def zip_bomb(folder: Path) -> None:
    """A shard whose pickle is 8 GiB of zeros in 8 MB."""
    from zipfile import ZIP_DEFLATED, ZipFile

    checkpoint()(folder)
    with ZipFile(folder / SHARD, "w", ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open("a/data.pkl", "w", force_zip64=True) as member:
            for _ in range(2**9):
                member.write(bytes(2**24))
        archive.writestr("a/version", "3\n")


def evaluated(config: str | None = None, sample: str | None = None, rows: Make | None = None) -> Make:
    """A model directory, and the samples of an earlier evaluation beside it."""

    def make(folder: Path) -> None:
        write(folder / "model/config.json", "{}")
        results = folder / "model-evaluation"
        good = {"uid": "p_0_0", "data_source": "arithmetic", "acc": 1.0, "response_tokens": 9.0, "truncated": 0.0}
        write(results / "samples/0.jsonl", (sample or json.dumps(good)) + "\n")
        write_rows(folder / "validation.parquet", rows=1)
        val_kwargs = "{n: 1, do_sample: true, temperature: 1.0, top_p: 1.0, top_k: -1}"
        files = config or str(folder / "validation.parquet")
        text = f"data: {{val_files: {files!r}, val_max_samples: -1, max_response_length: 80}}\nrun: {{seed: 1}}\n"
        text += f"actor_rollout_ref: {{rollout: {{val_kwargs: {val_kwargs}}}}}\n"
        write(results / ".hydra/config.yaml", text)
        if rows:
            rows(folder)

    return make


# Data to prepare


def parquet_of_one_text(folder: Path, name: str = "rows.parquet") -> None:
    """9 kB that hold a text of 256 MiB 64 times."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = pa.DictionaryArray.from_arrays(pa.array([0] * 64, pa.int32()), pa.array(["x" * 2**28]))
    columns = {"problem": text, "answer": ["1"] * 64, "data_source": text}
    columns |= {"uid": text, "score": [1.0] * 64, "response_tokens": [1] * 64}
    pq.write_table(pa.table(columns), folder / name, compression="zstd")


def parquet_of_no_values(folder: Path, name: str = "rows.parquet") -> None:
    """A megabyte that holds 268 million rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    chunk = pa.table({name: pa.nulls(2**24, pa.string()) for name in ("problem", "answer", "data_source", "uid")})
    with pq.ParquetWriter(folder / name, chunk.schema, compression="zstd") as writer:
        for _ in range(16):
            writer.write_table(chunk, row_group_size=2**24)


def problems(*texts: str) -> Make:
    """Rows in which a text is the question, the solution, and a question in verl's schema."""

    def make(folder: Path) -> None:
        rows: list[dict[str, Any]] = []
        for text in texts:
            rows += [
                {"problem": text, "answer": "1", "solution": text},
                {"problem": "q", "answer": "", "solution": text},
                {"prompt": [{"role": "user", "content": text}], "reward_model": {"ground_truth": "1"}},
            ]
        write_jsonl(folder / "rows.jsonl", [{"prompt": None, "problem": None, "answer": None, **row} for row in rows])

    return make


def livecodebench(tests: Any) -> Make:
    """A problem whose private tests are this: bytes to be packed by zlib, or an object to be pickled first."""

    def make(folder: Path) -> None:
        content = tests if isinstance(tests, bytes) else pickle.dumps(tests)
        row = {
            "question_content": "q",
            "starter_code": "",
            "public_test_cases": "[]",
            "private_test_cases": b64encode(zlib.compress(content, 1)).decode(),
            "metadata": "{}",
            "question_id": "1",
        }
        write_jsonl(folder / "rows.jsonl", [row])

    return make


# Checkpoints of one's own run


def two_checkpoints(folder: Path) -> None:
    for step in (1, 2):
        saved = folder / f"run/checkpoints/global_step_{step}"
        checkpoints.begin(saved)
        (saved / "data.pt").write_bytes(b"order")
        checkpoints.complete(saved, {})
