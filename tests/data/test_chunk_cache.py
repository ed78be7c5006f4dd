"""The dictionary of words gives the tokenizer's own ids, or is not used."""

import pydoc_data.topics
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from tasks.data.tokens.fast import encoder as chunk_cache
from tasks.data.tokens.fast import piece_cache as memory
from tasks.data.tokens.fast.encoder import (
    cached_encoder,
    choose_encoder,
    list_encoders,
    made_up_texts,
    plain_encoder,
)
from tasks.data.tokens.tokenizer import load_tokenizer
from tests.tiny_base import prose, whitespace

LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace("{1,3}", "")
O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def byte_level(pattern: str | None, normalizer: Any = None, prefix_space: bool = False) -> Tokenizer:
    """A byte-level BPE tokenizer as the families make it; no pattern is GPT-2's own."""
    tokenizer = Tokenizer(models.BPE())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space, use_regex=pattern is None)
    if pattern is None:
        tokenizer.pre_tokenizer = byte_level
    else:
        split = pre_tokenizers.Split(Regex(pattern), "isolated")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1500, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator([*prose()[::4], *whitespace()], trainer)
    if normalizer:
        tokenizer.normalizer = normalizer
    return tokenizer


@pytest.fixture(scope="module")
def tokenizers(tokenizer_folder: Path) -> dict[str, Tokenizer]:
    return {
        "ours": load_tokenizer(tokenizer_folder),
        "gpt2": byte_level(None),
        "llama3": byte_level(LLAMA3),
        "qwen2": byte_level(QWEN2, normalizers.NFC()),
        "o200k": byte_level(O200K),
    }


FAMILIES = ["ours", "gpt2", "llama3", "qwen2", "o200k"]


def soup(seed: int, count: int) -> list[str]:
    """Random white space between random characters of every kind."""
    generator = random.Random(seed)
    spaces = [chr(c) for c in range(0x3001) if chr(c).isspace()] + ["  ", "   ", "\r\n", "\n\n", "\t\t"]
    others = [
        *"aZé7.!/_'-",
        "don't",
        "'s",
        "1234",
        "中文",
        "。",
        "e\u0301",
        "\u200b",
        "\ufeff",
        "\u180e",
        "🙂",
    ]
    return ["".join(generator.choices(generator.choice([spaces, others, spaces + others]), k=1)[0] for _ in range(generator.randint(1, 16))) for _ in range(count)]  # fmt: skip


def chinese_soup(seed: int, count: int) -> list[str]:
    """Random runs of Chinese characters and punctuation, with other characters in between."""
    generator = random.Random(seed)
    characters = "".join(prose("zh_*"))
    others = ["abc", " ", "\n", "\n\n", "，", "。”", "……", "“", "\u3000", "７", "々", "豈", "🙂", "é", "ア"]
    return ["".join(generator.choice(characters) if generator.random() < 0.8 else generator.choice(others) for _ in range(generator.randint(1, 40))) for _ in range(count)]  # fmt: skip


def require_equal(tokenizer: Tokenizer, texts: list[str]) -> None:
    *encoders, plain = list_encoders(tokenizer, np.uint32)
    assert encoders, "no dictionary can be used for this tokenizer"
    expected = plain(texts)
    for encode in encoders:
        for _ in range(2):  # cold and warm
            assert encode(texts) == expected


@pytest.mark.parametrize("family", FAMILIES)
def test_ids_of_random_white_space_are_the_tokenizers_own(tokenizers, family):
    require_equal(tokenizers[family], soup(1, 4000))


@pytest.mark.parametrize("family", FAMILIES)
def test_ids_of_random_chinese_are_the_tokenizers_own(tokenizers, family):
    require_equal(tokenizers[family], chinese_soup(2, 4000))


@pytest.mark.parametrize("family", FAMILIES)
def test_ids_of_english_chinese_and_code_are_the_tokenizers_own(tokenizers, family):
    code = [*Path(__file__).read_text(encoding="utf-8").splitlines(), Path(chunk_cache.__file__).read_text()]
    require_equal(tokenizers[family], prose()[::5] + code + list(pydoc_data.topics.topics.values())[:10])


@pytest.mark.parametrize("family", FAMILIES)
def test_ids_of_naughty_strings_are_the_tokenizers_own(tokenizers, family, data_root):
    text = (data_root / "data/dirty/blns.txt").read_text(encoding="utf-8")
    require_equal(tokenizers[family], [text, *text.splitlines(keepends=True), *text.split("\n#")])


@pytest.mark.parametrize("family", FAMILIES)
def test_ids_of_real_texts_are_the_tokenizers_own(tokenizers, family, data_root):
    for name in ("general_zh/ntrex_zho-CN.txt", "general_en/tinyshakespeare.txt"):
        text = (data_root / "data" / name).read_text(encoding="utf-8")[:200_000]
        require_equal(tokenizers[family], [*text.split("\n\n"), *text.splitlines()[:500]])


def test_the_families_use_the_dictionary(tokenizers):
    for tokenizer in tokenizers.values():
        assert uses_dictionary(tokenizer, [["plain words"]])


def test_all_families_but_gpt2_cut_at_every_line_end(tokenizers):
    counts = {name: len(list_encoders(tokenizer, np.uint16)) - 1 for name, tokenizer in tokenizers.items()}
    assert counts == {"ours": 3, "gpt2": 2, "llama3": 3, "qwen2": 3, "o200k": 3}


def test_a_token_added_for_tools_is_found_in_the_middle_of_a_word(tokenizers):
    tokenizer = Tokenizer.from_str(tokenizers["qwen2"].to_str())
    tokenizer.add_tokens([AddedToken("<tool_call>", normalized=False)])
    texts = ["some<tool_call>text", "and <tool_call>", "none", "<tool_call>"]
    number = tokenizer.token_to_id("<tool_call>")
    assert all(
        number in np.frombuffer(ids, np.uint32) for ids in plain_encoder(tokenizer, np.uint32)(texts[:2])
    )
    require_equal(tokenizer, texts)


def uses_dictionary(tokenizer: Tokenizer, batches: list[list[str]]) -> bool:
    encode = choose_encoder(list_encoders(tokenizer, np.uint16), iter(batches))
    return encode.__qualname__.startswith("cached_encoder")


def test_a_tokenizer_that_normalises_is_asked_itself(tokenizers, data_root):
    stories = load_tokenizer(data_root / "models/stories260K/hf")
    assert not uses_dictionary(stories, [["Once upon a time"]])
    assert cached_encoder(stories, np.uint16)(["a b"]) != plain_encoder(stories, np.uint16)(["a b"])


def test_a_prefix_space_is_noticed():
    assert not uses_dictionary(byte_level(None, prefix_space=True), [])


def test_merges_across_spaces_are_noticed():
    tokenizer = byte_level(r"[^\n]+|\n")  # a line is one piece: tokens may span words
    assert "ĠtheĠ" in "".join(tokenizer.get_vocab())
    assert not uses_dictionary(tokenizer, [["and all the "] * 3])


def with_merge(pattern: str, left: str, right: str) -> Tokenizer:
    """A byte-level tokenizer that knows the bytes and one merge."""
    tokenizer = byte_level(pattern)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate(alphabet)}
    tokenizer.model = models.BPE({**vocabulary, left + right: 256}, [(left, right)])
    return tokenizer


def test_a_difference_that_only_the_sample_shows_is_noticed():
    tokenizer = with_merge(r"quaint t|\p{L}+|\s|.", "t", "h")  # only after this word "t" and "h" stay apart
    require_equal(tokenizer, made_up_texts())
    assert uses_dictionary(tokenizer, [["nothing odd"]])
    assert not uses_dictionary(tokenizer, [["fine"], ["quaint things"]])


def test_a_token_that_reaches_across_a_space_is_noticed_in_the_vocabulary():
    tokenizer = with_merge(r"quaint things|\p{L}+|\s|.", "t", "Ġ")
    cached, plain = cached_encoder(tokenizer, np.uint16), plain_encoder(tokenizer, np.uint16)
    assert cached(made_up_texts()) == plain(made_up_texts())
    assert not uses_dictionary(tokenizer, [["nothing odd"]])


@pytest.mark.parametrize(
    "token", [AddedToken("two words"), AddedToken("tag", lstrip=True), AddedToken("    ")]
)
def test_added_tokens_that_reach_across_white_space_are_noticed(token):
    tokenizer = byte_level(LLAMA3)
    assert uses_dictionary(tokenizer, [])
    tokenizer.add_tokens([token])
    assert not uses_dictionary(tokenizer, [])


def test_a_full_dictionary_is_emptied_and_stays_right(tokenizers, monkeypatch):
    monkeypatch.setattr(memory, "MOST_PIECES", 50)
    tokenizer = tokenizers["ours"]
    cached, plain = cached_encoder(tokenizer, np.uint16), plain_encoder(tokenizer, np.uint16)
    for start in range(0, 60, 10):
        texts = prose()[start : start + 10]
        assert cached(texts) == plain(texts)


def batches_of(texts: list[str]) -> Iterator[list[str]]:
    yield texts


def test_empty_texts_and_batches_have_no_ids(tokenizers):
    encode = choose_encoder(list_encoders(tokenizers["ours"], np.uint16), batches_of(["a"]))
    assert encode([]) == []
    assert encode([""]) == [b""]
