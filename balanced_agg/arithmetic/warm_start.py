"""Supervised training of the tiny model on a task's demonstrations, cached by its settings."""

import hashlib
import json
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen3ForCausalLM

from balanced_agg.arithmetic.model import build_model
from balanced_agg.arithmetic.tasks import Problem, Task
from balanced_agg.arithmetic.tokenizer import build_tokenizer, encode_prompt
from balanced_agg.atomic_write import atomic_write

RECORD_NAME = "warm_start.json"
_IGNORED_LABEL = -100  # what torch's cross entropy skips


@dataclass(frozen=True)
class WarmStartSettings:
    """Settings of the supervised training; `steps` counts updates, `batch_size` demonstrations."""

    steps: int
    batch_size: int = 32
    learning_rate: float = 3e-3
    warmup_steps: int = 20
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    threads: int = 2


def warm_start(
    task: Task,
    regime: str,
    out_dir: Path,
    problems: Sequence[Problem],
    seed: int = 0,
    settings: WarmStartSettings | None = None,
) -> bool:
    """Train the model on a task's demonstrations and save it, with its tokenizer, as a Hugging Face directory.

    Args:
        regime: one of the task's.
        out_dir: the directory to make. It appears only when complete, and replaces an earlier warm
            start there whose settings differ.
        problems: what to demonstrate, at least one.
        seed: fixes the initial weights and the demonstrations. On one machine the same seed, problems and
            settings give the same weights, bit for bit.
        settings: by default those with the steps that the task takes.

    Returns:
        True if it trained, False if `out_dir` already held the result for these arguments and code.

    Raises:
        ValueError: for an unknown regime.
        FileExistsError: if `out_dir` exists, is not empty, and was not made by a warm start.
    """
    settings = settings or WarmStartSettings(task.warm_start_steps)
    record, record_file = _record(task, regime, seed, settings, problems), out_dir / RECORD_NAME
    with suppress(OSError, ValueError):  # there is none, or it is incomplete
        if json.loads(record_file.read_text()) == record:
            return False
    if out_dir.exists() and any(out_dir.iterdir()) and not record_file.exists():
        raise FileExistsError(f"{out_dir} holds something else than a warm start; choose another directory")

    tokenizer = build_tokenizer(task)
    threads_before = torch.get_num_threads()
    # The order of a parallel sum depends on the number of threads, so it is part of the settings.
    torch.set_num_threads(settings.threads)
    try:
        model = _train(task, regime, problems, seed, settings, tokenizer)
    finally:
        torch.set_num_threads(threads_before)
    model.generation_config = GenerationConfig(
        do_sample=True, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    with atomic_write(out_dir) as temporary:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        (temporary / RECORD_NAME).write_text(json.dumps(record, indent=2) + "\n")
    return True


def _record(task: Task, regime: str, seed: int, settings: WarmStartSettings, problems: Sequence[Problem]) -> dict:
    """All that determines the weights, as plain JSON values; written beside them."""
    code = b"".join(source.read_bytes() for source in sorted(Path(__file__).parent.glob("*.py")))
    texts = "\n".join(problem.text for problem in problems)
    return {
        "task": task.name,
        "regime": regime,
        "noise": task.noise(regime),
        "seed": seed,
        "settings": asdict(settings),
        "problems_sha256": hashlib.sha256(texts.encode()).hexdigest(),
        "code_sha256": hashlib.sha256(code).hexdigest(),
    }


def _batches(
    task: Task,
    regime: str,
    problems: Sequence[Problem],
    seed: int,
    batch_size: int,
    tokenizer: PreTrainedTokenizerFast,
) -> Iterator[list[tuple[torch.Tensor, torch.Tensor]]]:
    """Endless batches of demonstrations, each in two parts of (input_ids, labels), int64 [rows, length].

    The parts are the shorter and the longer half of the batch, as less padding saves a quarter of the
    time. To sort a larger pool would save more, but then batches would be mostly right or mostly
    wrong, and the model would learn other noise rates than those of the demonstrations.
    """
    rng = random.Random(f"demonstrations-{seed}")
    prompts = [encode_prompt(tokenizer, problem) for problem in problems]
    while True:
        examples = []
        for index in rng.choices(range(len(problems)), k=batch_size):
            text = task.demonstrate(problems[index], task.regimes[regime], rng)
            response = [*tokenizer.encode(text), tokenizer.eos_token_id]
            examples.append((prompts[index], response[: task.longest]))
        examples.sort(key=lambda example: len(example[0]) + len(example[1]))
        halves = examples[: len(examples) // 2], examples[len(examples) // 2 :]
        yield [_pad(half, tokenizer.pad_token_id) for half in halves if half]


def _pad(examples: Sequence[tuple[list[int], list[int]]], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-padded input ids of (prompt, response) pairs, and labels that cover the responses alone."""
    ids = [torch.tensor(prompt + response) for prompt, response in examples]
    labels = [torch.tensor([_IGNORED_LABEL] * len(prompt) + response) for prompt, response in examples]
    return (
        pad_sequence(ids, batch_first=True, padding_value=pad_id),
        pad_sequence(labels, batch_first=True, padding_value=_IGNORED_LABEL),
    )


def _train(
    task: Task,
    regime: str,
    problems: Sequence[Problem],
    seed: int,
    settings: WarmStartSettings,
    tokenizer: PreTrainedTokenizerFast,
) -> Qwen3ForCausalLM:
    """The trained model, in evaluation mode. The loss is the mean over the response tokens of a batch."""
    model = build_model(seed, task).train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings.learning_rate, betas=(0.9, 0.95), weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        # Up within warmup_steps, and down to zero over all steps, both linearly.
        lambda step: min((step + 1) / settings.warmup_steps, 1 - step / settings.steps),
    )
    batches = _batches(task, regime, problems, seed, settings.batch_size, tokenizer)
    started = last_report = time.monotonic()
    for step, batch in zip(range(1, settings.steps + 1), batches, strict=False):
        tokens = sum((labels != _IGNORED_LABEL).sum().item() for _, labels in batch)
        batch_loss = 0.0
        optimizer.zero_grad()
        for input_ids, labels in batch:
            # Padding stands on the right, where causal attention hides it: no attention mask is needed.
            logits = model(input_ids=input_ids, use_cache=False).logits
            predictions, targets = logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
            loss = cross_entropy(predictions, targets, ignore_index=_IGNORED_LABEL, reduction="sum") / tokens
            loss.backward()
            batch_loss += loss.item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.max_grad_norm)
        optimizer.step()
        schedule.step()
        now = time.monotonic()
        if now - last_report >= 5 or step == settings.steps:
            last_report = now
            print(
                f"warm start {task.name} {regime}: step {step}/{settings.steps}, "
                f"loss {batch_loss:.3f} per token, {now - started:.0f} s",
                flush=True,
            )
    return model.eval()
