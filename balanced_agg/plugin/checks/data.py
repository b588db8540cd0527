"""Data files: that they are there, are what verl reads, and have enough prompts that are short enough."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import combinations, islice
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from balanced_agg.plugin.checks.model import load_tokenizer, local_model, model_config
from balanced_agg.plugin.refusal import Refusal

KEYS = ("data.train_files", "data.val_files")
FORMATS = (".parquet", ".json", ".jsonl")


def check_data_files(config: DictConfig) -> None:
    """Check that local data files exist, once each. verl fetches remote ones (``hdfs://``, ``s3://``, …)."""
    for key in KEYS:
        if not OmegaConf.select(config, key):
            raise Refusal(key, " names no file", "set it to one, or to a list of files")
    files = list(local_data_files(config))
    if missing := [(key, file) for key, file in files if not file.is_file()]:
        data_dir = (config.get("run") or {}).get("data_dir")
        names = dict.fromkeys(file.stem for _, file in missing if str(file.parent) == data_dir)
        how = f"run `balanced-agg prepare {' '.join(names)}`" if names else "prepare the data set"
        raise Refusal(
            ", ".join(dict.fromkeys(key for key, _ in missing)),
            f": {', '.join(str(file) for _, file in missing)} {'does' if len(missing) == 1 else 'do'} not exist",
            f"{how}, or set the key to a file that does",
        )
    for number, (key, file) in enumerate(files):
        if (key, file) in files[:number]:
            raise Refusal(key, f" names {file} twice, so that its rows would count twice", "name it once")
        if file.suffix not in FORMATS and not own_data_set(config):
            raise Refusal(key, f": verl does not read {file}", f"set it to a file that ends in {', '.join(FORMATS)}")


def local_data_files(config: DictConfig) -> Iterator[tuple[str, Path]]:
    """(key, file) of each training and validation file on this machine."""
    for key in KEYS:
        files = OmegaConf.select(config, key)
        for file in [files] if isinstance(files, str) else files or []:
            if "://" not in file:
                yield key, Path(file).expanduser()


def folders_of_tests(config: DictConfig) -> list[str]:
    """Where files of tests may be (rewards/packed_tests.py): as our reward function is told, else beside data files."""
    told = OmegaConf.select(config, "reward.custom_reward_function.reward_kwargs.tests_folders")
    beside = (
        folder for _, file in local_data_files(config) for folder in (file.absolute().parent, file.resolve().parent)
    )
    return list(told or dict.fromkeys(map(str, beside)))


def own_data_set(config: DictConfig) -> bool:
    """Whether a data set class of the user's reads the files."""
    return OmegaConf.select(config, "data.custom_cls.path") is not None


def parquet_files(config: DictConfig, keys: tuple[str, ...] = KEYS) -> list[tuple[str, Path]]:
    """Those of the local data files under these keys that verl's own data set reads as parquet."""
    if own_data_set(config):
        return []
    return [(key, file) for key, file in local_data_files(config) if key in keys and file.suffix == ".parquet"]


def check_columns(config: DictConfig) -> None:
    """Check that parquet files have rows, prompts that are lists of messages, and what rewards are computed from."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    graded = config.reward.custom_reward_function.path is not None or not config.reward.reward_model.enable
    for key, file in parquet_files(config):
        with complete(key, file):
            schema, rows = pq.read_schema(file), pq.read_metadata(file).num_rows
        if not rows:
            raise Refusal(key, f": {file} has no rows", f"set {key} to a file that has")
        name = config.data.prompt_key
        if name not in schema.names:
            what = f": {file} has no column {name}, but {', '.join(schema.names)}"
            raise Refusal(key, what, "set data.prompt_key to the one with prompts")
        message = getattr(schema.field(name).type, "value_type", None)  # of a list
        if not isinstance(message, pa.StructType) or not {"role", "content"} <= {field.name for field in message}:
            raise Refusal(
                key,
                f": {file} has a column {name} of {schema.field(name).type}, which is no list of messages with role "
                "and content",
                "prepare the file again, or set data.prompt_key to the column that is",
            )
        with_fields = schema.empty_table().flatten().column_names  # a struct's as STRUCT.FIELD
        for column in ("data_source", "reward_model.ground_truth") if graded else ():
            if column not in with_fields:
                what = f": {file} has no column {column}, from which rewards are computed"
                raise Refusal(key, what, "prepare it again with one")


@contextmanager
def complete(key: str, file: Path) -> Iterator[None]:
    """Refuse a parquet file that cannot be read to its end."""
    import pyarrow as pa

    try:
        yield
    except FileNotFoundError:  # which check_data_files says
        raise
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        what = f": {file} is not a complete parquet file ({' '.join(str(error).split())})"
        raise Refusal(key, what, "prepare it again") from None


def check_rollout_counts(config: DictConfig) -> None:
    """Check that all validation files have the column ``__rollout_n__``, or none: verl joins them."""
    import pyarrow.parquet as pq

    files = [file for _, file in parquet_files(config, ("data.val_files",))]
    without = [str(file) for file in files if "__rollout_n__" not in pq.read_schema(file).names]
    if without and len(without) < len(files):
        raise Refusal(
            "data.val_files",
            f": {', '.join(without)} have no column __rollout_n__, which the other files have",
            "set data.val_files to files that agree",
        )


def check_column_types(config: DictConfig) -> None:
    """Check that files that verl joins have columns of the same types, which it finds out after Ray's start."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for key in KEYS:
        schemas = {file: pq.read_schema(file) for _, file in parquet_files(config, (key,))}
        if len(schemas) < 2 or joinable(*schemas.values()):
            continue
        first, other = next(pair for pair in combinations(schemas, 2) if not joinable(*map(schemas.get, pair)))
        for name in {*schemas[first].names} & {*schemas[other].names}:
            fields = [schemas[file].field(name) for file in (first, other)]
            if not joinable(*(pa.schema([field]) for field in fields)):
                types = f"{fields[0].type} in {first}, but {fields[1].type} in {other}"
                what = f": verl cannot join its files, because the column {name} is {types}"
                raise Refusal(key, what, f"prepare them alike, or set {key} to files that agree")


def joinable(*schemas: Any) -> bool:
    """Whether verl's own data set can join parquet files of these schemas."""
    import datasets
    import pyarrow as pa

    rows = [pa.Table.from_arrays([pa.nulls(1, field.type) for field in schema], schema=schema) for schema in schemas]
    try:
        datasets.concatenate_datasets(list(map(datasets.Dataset, rows)))
    except (ValueError, pa.ArrowException):
        return False
    return True


def check_steps(config: DictConfig) -> None:
    """Check that the training set has prompts for one step, and the epochs for all steps that are asked for."""
    import pyarrow.parquet as pq

    files = [file for _, file in parquet_files(config, ("data.train_files",))]
    named = OmegaConf.select(config, "data.train_files")
    if config.trainer.get("val_only") or len(files) < (1 if isinstance(named, str) else len(named)):
        return
    rows = sum(pq.read_metadata(file).num_rows for file in files)
    if not rows:
        return  # check_columns says so
    limit = config.data.get("train_max_samples") or -1
    rows = min(rows, limit) if limit > 0 else rows
    steps_an_epoch, wanted = rows // config.data.train_batch_size, config.trainer.total_training_steps
    if not steps_an_epoch:
        raise Refusal(
            "data.train_batch_size",
            f"={config.data.train_batch_size} is more than the {rows} prompts of data.train_files",
            f"set it to {rows} or less",
        )
    if wanted and wanted > steps_an_epoch * config.trainer.total_epochs:
        raise Refusal(
            "trainer.total_epochs",
            f"={config.trainer.total_epochs} of {steps_an_epoch} steps are fewer than trainer.total_training_steps="
            f"{wanted}, and verl ends after them without a last validation and checkpoint",
            f"set it to {-(-wanted // steps_an_epoch)}, or trainer.total_training_steps to null",
        )


def check_prompts(config: DictConfig) -> None:
    """Check that enough prompts are short enough, and that the model has their tokens.

    As few rows are read as that takes. Where verl filters overlong prompts there must be a batch of others. Where it
    does not, it cuts them off at the left, and they cannot all be such.
    """
    model, folder = config.actor_rollout_ref.model, local_model(config)
    tokenizer_folder = Path(model.get("tokenizer_path") or model.path).expanduser()
    if not tokenizer_folder.is_dir():  # then it is left to verl
        return
    tokenizer = load_tokenizer(tokenizer_folder, model.get("trust_remote_code", False))
    options = OmegaConf.to_container(config.data.get("apply_chat_template_kwargs") or OmegaConf.create(), resolve=True)
    if model.get("custom_chat_template"):
        options["chat_template"] = model.custom_chat_template
    elif not tokenizer.chat_template:
        return
    vocabulary = model_config(folder).get("vocab_size", math.inf) if folder else math.inf
    limit, filtered = config.data.max_prompt_length, config.data.filter_overlong_prompts
    for key in KEYS[1:] if config.trainer.get("val_only") else KEYS:
        needed = config.data.train_batch_size if filtered and key == "data.train_files" else 1
        short, lengths, refused = 0, [], None
        for file, messages in prompts_of(config, key):
            try:
                text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False, **options)
            except Exception as error:  # whatever a template raises
                what = f": {file}: the tokenizer's chat template refuses the prompt {messages!r}: {error}"
                remedy = "correct the prompt, or set actor_rollout_ref.model.custom_chat_template"
                refused = Refusal(key, what, remedy)
                if filtered:  # verl leaves it out, too
                    continue
                raise refused from None
            tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
            if (token := max(tokens, default=0)) >= vocabulary:
                raise Refusal(
                    "actor_rollout_ref.model.path",
                    f": the model in {folder} has {vocabulary} tokens, but its tokenizer makes the token {token} of "
                    f"{key}",
                    "set it to a model with its own tokenizer",
                )
            lengths.append(len(tokens))
            short += lengths[-1] <= limit
            if short == needed:
                break
        if short < needed and refused:
            raise refused
        if short < needed and lengths:
            raise Refusal(
                "data.max_prompt_length",
                f"={limit} tokens: {short} of the {len(lengths)} prompts of {key} are as short, {needed} are needed, "
                f"and the shortest has {min(lengths)}",
                "set it to more",
            )


def prompts_of(config: DictConfig, key: str) -> Iterator[tuple[Path, list[dict]]]:
    """(file, messages) of each row of the parquet files under this key, read in small batches."""
    import pyarrow.parquet as pq

    for _, file in parquet_files(config, (key,)):
        batches = pq.ParquetFile(file).iter_batches(256, columns=[config.data.prompt_key])
        while True:
            with complete(key, file):
                prompts = [prompt for batch in islice(batches, 1) for prompt in batch.column(0).to_pylist()]
            if not prompts:
                break
            yield from ((file, messages) for messages in prompts)
