"""Claims about the tokenizer, its chat template, and the model that shares its vocabulary."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from balanced_agg.arithmetic.model import build_model
from balanced_agg.arithmetic.problems import Problem
from balanced_agg.arithmetic.tasks import ARITHMETIC
from balanced_agg.arithmetic.tokenizer import UNKNOWN, build_tokenizer, encode_prompt, vocabulary

TOKENIZER = build_tokenizer()
VOCABULARY = vocabulary(ARITHMETIC)
PROBLEM = Problem((3, 8, 6, 7))


@given(st.text(alphabet=ARITHMETIC.alphabet))
def test_text_survives_encoding_and_decoding_one_token_per_character(text):
    ids = TOKENIZER.encode(text)
    assert len(ids) == len(text)
    assert TOKENIZER.decode(ids) == text
    assert TOKENIZER.decode([*ids, TOKENIZER.eos_token_id], skip_special_tokens=True) == text


@given(st.lists(st.integers(0, len(VOCABULARY) - 1)))
def test_tokens_survive_decoding_and_encoding(ids):
    assert TOKENIZER.encode(TOKENIZER.decode(ids)) == ids


def test_characters_outside_the_alphabet_become_the_unknown_token():
    assert TOKENIZER.convert_ids_to_tokens(TOKENIZER.encode("3x \n")) == ["3"] + [UNKNOWN] * 3


def test_prompt_is_the_user_turn_and_the_generation_prompt():
    text = TOKENIZER.apply_chat_template(PROBLEM.messages, add_generation_prompt=True, tokenize=False)
    assert text == "<|user|>3+5-2+1=<|end|><|assistant|>"
    assert TOKENIZER.encode(text) == encode_prompt(TOKENIZER, PROBLEM)
    assert len(encode_prompt(TOKENIZER, PROBLEM)) == len(PROBLEM.text) + 3


def test_template_tokenizes_as_its_text_does():
    ids = TOKENIZER.apply_chat_template(PROBLEM.messages, add_generation_prompt=True, return_dict=False)
    assert ids == encode_prompt(TOKENIZER, PROBLEM)


def test_generation_prompt_and_response_are_the_finished_conversation():
    conversation = [*PROBLEM.messages, {"role": "assistant", "content": "#7"}]
    prompt = encode_prompt(TOKENIZER, PROBLEM)
    finished = TOKENIZER.apply_chat_template(conversation, return_dict=False)
    assert finished == prompt + TOKENIZER.encode("#7") + [TOKENIZER.eos_token_id]


def test_template_rejects_a_role_without_token():
    with pytest.raises(Exception, match="role must be system, user or assistant, got tool"):
        TOKENIZER.apply_chat_template([{"role": "tool", "content": "3"}], tokenize=False)


def test_pad_and_end_of_sequence_are_different_tokens():
    assert TOKENIZER.pad_token_id != TOKENIZER.eos_token_id


def test_auto_tokenizer_loads_an_identical_tokenizer_from_the_model_directory(tmp_path):
    build_model(seed=0).config.save_pretrained(tmp_path)  # AutoTokenizer also looks at the model type
    TOKENIZER.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    text = "".join(VOCABULARY) + "x"
    assert loaded.is_fast
    assert loaded.get_vocab() == TOKENIZER.get_vocab()
    assert loaded.encode(text) == TOKENIZER.encode(text)
    assert loaded.decode(loaded.encode(text)) == TOKENIZER.decode(TOKENIZER.encode(text))
    assert loaded.special_tokens_map == TOKENIZER.special_tokens_map
    assert loaded.chat_template == TOKENIZER.chat_template
    assert loaded.padding_side == "left"
    assert encode_prompt(loaded, PROBLEM) == encode_prompt(TOKENIZER, PROBLEM)


def test_model_and_tokenizer_have_the_same_vocabulary_size_and_end_token():
    model = build_model(seed=0)
    assert len(TOKENIZER) == TOKENIZER.vocab_size == len(VOCABULARY)
    assert model.config.vocab_size == len(VOCABULARY)
    assert model.get_input_embeddings().num_embeddings == model.lm_head.out_features == len(VOCABULARY)
    assert model.config.eos_token_id == TOKENIZER.eos_token_id
    assert model.config.pad_token_id == TOKENIZER.pad_token_id


def test_model_is_a_qwen3_of_about_a_million_parameters():
    model = build_model(seed=0)
    assert model.config.model_type == "qwen3"
    assert 0.8e6 < model.num_parameters() < 1.2e6


def test_same_seed_gives_same_initial_weights_and_leaves_the_random_state_alone():
    state = torch.get_rng_state()
    first, second, third = build_model(1), build_model(1), build_model(2)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.lm_head.weight, second.lm_head.weight)
    assert not torch.equal(first.lm_head.weight, third.lm_head.weight)


def test_saved_model_is_loaded_with_equal_logits(tmp_path):
    model = build_model(seed=0).eval()
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, local_files_only=True).eval()
    ids = torch.tensor([encode_prompt(TOKENIZER, PROBLEM)])
    with torch.no_grad():
        torch.testing.assert_close(loaded(ids).logits, model(ids).logits)
