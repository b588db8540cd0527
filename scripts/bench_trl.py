"""TRL's GRPOTrainer at the work of a large arithmetic step; prints the seconds of each. scripts/bench_trl.sh runs it.

Both: 32 prompts x 8 responses of at most 80 tokens at temperature 1, one update on all of them in fp32, the same model,
problems and rewards. TRL does it in one process and generates with transformers. Where pip does not find torch's +cpu
build for its environment, scripts/setup.sh says which index has it.
"""

import os
import tempfile
import time
from pathlib import Path

from datasets import load_dataset
from transformers import AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from balanced_agg.rewards import compute_score

TASK = Path(os.environ["BALANCED_AGG_ROOT"]) / "artifacts/arithmetic/length_gap"


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
            logging_strategy="no",
            disable_tqdm=True,
            report_to=[],
        ),
        callbacks=[StepTimes()],
    )
    trainer.train()


if __name__ == "__main__":
    main()
