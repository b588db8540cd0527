"""TRL's GRPOTrainer at the work of a large arithmetic step, to compare with ours; it prints the seconds of each step.

    python3.11 -m venv artifacts/trl
    artifacts/trl/bin/pip install -c <(sed 's/ .*//' requirements-cpu.lock) \\
      trl==1.16.0 accelerate datasets torch transformers
    PYTHONPATH=. artifacts/trl/bin/python scripts/bench_trl.py
    bash scripts/train.sh arithmetic data.train_batch_size=32 actor_rollout_ref.actor.ppo_mini_batch_size=32 \\
      trainer.total_training_steps=8 trainer.test_freq=-1 trainer.val_before_train=false    # timing_s/step in its log

Both: 32 prompts x 8 responses of at most 80 tokens at temperature 1, one update on all of them in fp32, the same model,
problems and rewards. TRL does it in one process and generates with transformers. It has an environment of its own:
verl 0.9.1 imports from any TRL that it finds what this one no longer has, and no run of ours starts beside it. Where
pip does not find torch's +cpu build, scripts/setup.sh says which index has it.
"""

import tempfile
import time
from pathlib import Path

from datasets import load_dataset
from transformers import AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from balanced_agg.rewards import compute_score

TASK = Path("artifacts/arithmetic/length_gap")  # `balanced-agg prepare arithmetic`, in the same folder


def rewards(completions: list, reward_model: list[dict], **columns: list) -> list[float]:
    pairs = zip(completions, reward_model, strict=True)
    return [compute_score("arithmetic", said[-1]["content"], row["ground_truth"])["score"] for said, row in pairs]


class StepTimes(TrainerCallback):
    def on_step_begin(self, *args, **kwargs) -> None:
        self.start = time.perf_counter()

    def on_step_end(self, arguments, state, *args, **kwargs) -> None:
        print(f"step {state.global_step}: {time.perf_counter() - self.start:.2f} s", flush=True)


def main() -> None:
    trainer = GRPOTrainer(
        model=str(TASK / "model"),
        processing_class=AutoTokenizer.from_pretrained(TASK / "model"),
        reward_funcs=rewards,
        train_dataset=load_dataset("parquet", data_files=str(TASK / "train.parquet"), split="train"),
        args=GRPOConfig(
            output_dir=tempfile.gettempdir(),  # nothing is saved
            per_device_train_batch_size=256,  # responses
            num_generations=8,
            max_completion_length=80,  # tokens
            learning_rate=3e-5,
            lr_scheduler_type="constant",
            beta=0.0,
            max_steps=8,
            use_cpu=True,
            bf16=False,
            save_strategy="no",
            logging_steps=1,
            report_to=[],
        ),
        callbacks=[StepTimes()],
    )
    trainer.train()


if __name__ == "__main__":
    main()
