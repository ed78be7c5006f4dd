"""Tokens and the bytes they stand for."""

import numpy as np
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, trainers

from tasks.data.tokens.fast.vocabulary import added_texts, byte_level_alphabet, bytes_by_id, token_bytes
from tasks.data.tokens.tokenizer import load_tokenizer
from tests.tiny_base import prose

TEXT = "A word, 中文 and 🙂 \u0007."


def byte_level() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=600, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(prose(), trainer)
    return tokenizer


def test_the_alphabet_is_the_one_of_byte_level_tokenizers():
    assert set(byte_level_alphabet()) == set(pre_tokenizers.ByteLevel.alphabet())
    assert byte_level_alphabet()[0x20] == "Ġ"


def test_the_bytes_of_the_ids_of_a_text_add_up_to_the_text(tokenizer_folder):
    for tokenizer in (byte_level(), load_tokenizer(tokenizer_folder)):
        ids = np.array(tokenizer.encode(TEXT, add_special_tokens=False).ids)
        assert bytes_by_id(tokenizer)[ids].sum() == len(TEXT.encode())


def test_special_and_byte_tokens_are_not_made_by_merges(tokenizer_folder):
    tokens = token_bytes(load_tokenizer(tokenizer_folder))
    assert b"a" in tokens
    assert not any(token.startswith((b"<|", b"<0x")) for token in tokens)


def test_byte_level_tokens_are_told_as_their_bytes():
    tokens = token_bytes(byte_level())
    assert b" the" in tokens
    assert "，".encode() in tokens


def test_a_tokenizer_of_another_kind_has_no_tokens_made_by_merges():
    assert token_bytes(Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))) == []


def test_added_texts_are_those_that_are_not_special():
    tokenizer = byte_level()
    tokenizer.add_tokens([AddedToken("<tool>")])
    tokenizer.add_special_tokens(["<end>"])
    assert added_texts(tokenizer) == ["<tool>"]
