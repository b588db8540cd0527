"""Claims about the prepared files as verl's own data set, collation and agent loop read them."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from balanced_agg.data.prepare import prepare
from balanced_agg.data.registry import BENCHMARKS
from omegaconf import OmegaConf
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from verl.utils import tensordict_utils
from verl.utils.dataset.rl_dataset import RLHFDataset, collate_fn

from balanced_agg.rewards.program_tests import find_tests
from tests.data.sources import BENCHMARK_ROWS, write_jsonl, write_parquet

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="module")
def tokenizer():
    backend = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="?", chat_template=CHATML)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmarks")
    return [
        str(prepare(dataset, folder, write_parquet(folder / "rows.parquet", BENCHMARK_ROWS[dataset.name])).path)
        for dataset in BENCHMARKS
    ]


@pytest.fixture(scope="module")
def loaded(files, tokenizer, tmp_path_factory):
    config = {"max_prompt_length": 1024, "filter_overlong_prompts_workers": 1}
    config["cache_dir"] = str(tmp_path_factory.mktemp("cache"))
    return RLHFDataset(files, tokenizer, OmegaConf.create(config))


@pytest.mark.parametrize("name", ["rows[1]", "rows?", "*", "ro ws, {a}(b)=", 'zeilen jörg\'s "x"'])
@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
@pytest.mark.parametrize("linked", [False, True])
def test_the_file_that_is_named_is_the_file_that_verl_reads(name, suffix, linked, tokenizer, tmp_path):
    rows, folder = {}, tmp_path / "[folder]"
    folder.symlink_to(tmp_path) if linked else folder.mkdir()
    for stem in (name, "rows1", "rows2"):
        rows[stem] = [{"prompt": [{"role": "user", "content": stem}], "data_source": stem}]
        write = write_parquet if suffix == "parquet" else write_jsonl
        write(folder / f"{stem}.{suffix}", rows[stem])
    config = OmegaConf.create({"max_prompt_length": 1024, "filter_overlong_prompts": False, "cache_dir": str(tmp_path)})
    files = [str(folder / f"{stem}.{suffix}") for stem in (name, "rows2")]
    dataset = RLHFDataset(files, tokenizer, config)
    assert [row["data_source"] for row in dataset] == [name, "rows2"]
    assert dataset.data_files == files


def test_all_six_have_one_schema(files):
    schemas = [pq.read_schema(file) for file in files]
    assert len(schemas) == 6
    assert all(schema.equals(schemas[0]) for schema in schemas)


def test_the_six_load_together_and_no_row_is_lost(loaded):
    expected = [(name, 32 if "aime" in name else 4) for name, rows in BENCHMARK_ROWS.items() for _ in rows]
    assert [(row["data_source"], row["__rollout_n__"]) for row in loaded] == expected


def test_number_of_samples_reaches_the_agent_loop_as_an_int(loaded):
    batch = collate_fn([loaded[number] for number in range(len(loaded))])
    # As `_validate` reads it …
    assert isinstance(batch["__rollout_n__"], np.ndarray)
    assert [int(n) for n in batch["__rollout_n__"]] == [4, 4, 32, 32, 4, 4, 4, 4]
    # … and as the agent loop's worker does.
    stack = dict(tensordict_utils.get_tensordict(batch).items())["__rollout_n__"]
    assert [len(range(stack[number].data)) for number in range(8)] == [4, 4, 32, 32, 4, 4, 4, 4]


def test_messages_and_ground_truth_arrive_unchanged(loaded, files):
    program, answer = loaded[len(loaded) - 1], loaded[0]
    assert [message["role"] for message in program["raw_prompt"]] == ["system", "user"]
    assert answer["reward_model"]["ground_truth"] == r"\frac{1}{2}"
    tests = find_tests(program["reward_model"]["ground_truth"], [str(Path(files[-1]).parent)])()
    assert tests == ([("1", "2"), ("3", "6")], "double")
    assert program["extra_info"]["index"] == program["index"] == 1
