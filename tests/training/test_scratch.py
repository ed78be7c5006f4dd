"""A new base: a tokenizer that spells any text, and weights that depend on the seed alone."""

import json
import random

import pytest
import torch
from tokenizers import Tokenizer

from schemas.errors import UserError
from schemas.spec.base_model import Scratch
from schemas.spec.base_model import Tokenizer as TokenizerSettings
from tasks.data.model.folder import model_sha256
from tasks.data.tokens.tokenizer import encode_text, load_tokenizer, special_ids
from tasks.training.models.base_model import provide_base
from tasks.training.models.load import load_model
from tasks.training.models.scratch import BOS, EOS, make_base, train_tokenizer
from tests.corpora import make_spec, prepare_rows, source, write_rows
from tests.tiny_base import TINY, prose


def random_texts(count: int) -> list[str]:
    generator = random.Random(4)

    def character() -> str:
        value = generator.choice([generator.randrange(0x20, 0x7F), generator.randrange(0x110000), 0x0A, 0x09])
        return chr(value) if not 0xD800 <= value < 0xE000 else "x"

    return ["".join(character() for _ in range(generator.randint(1, 40))) for _ in range(count)]


def test_any_text_comes_back_from_its_ids(base):
    tokenizer = load_tokenizer(base)
    texts = [*random_texts(300), *prose()[::7], "🙂 ẞ\n\n\t<0x41> <|end|>", "a" * 5000]
    for text, ids in zip(texts, encode_text(base, texts), strict=True):
        assert tokenizer.decode(ids[1:-1]) == text


def test_the_vocabulary_is_as_large_as_asked_with_all_bytes_and_both_ends(base):
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    assert tokenizer.get_vocab_size() == TINY.tokenizer.vocab_size
    vocabulary = tokenizer.get_vocab()
    assert {f"<0x{value:02X}>" for value in range(256)} | {BOS, EOS} <= vocabulary.keys()
    special = special_ids(base)
    assert (special.bos, special.eos, special.pad) == (vocabulary[BOS], vocabulary[EOS], vocabulary[EOS])


def test_characters_beyond_the_alphabet_are_spelt_in_bytes():
    settings = Scratch(tokenizer=TokenizerSettings(vocab_size=600, alphabet_size=64))
    tokenizer = train_tokenizer(lambda: iter(prose()), settings)
    tokens = tokenizer.encode("罕", add_special_tokens=False).tokens
    assert tokens == [f"<0x{byte:02X}>" for byte in "罕".encode()]
    assert sum(len(token) == 1 for token in tokenizer.get_vocab()) <= 64


def test_the_same_texts_give_the_same_tokenizer_whatever_their_order():
    texts = prose()[:60]
    first = train_tokenizer(lambda: iter(texts), TINY)
    assert train_tokenizer(lambda: iter(texts), TINY).to_str() == first.to_str()
    assert train_tokenizer(lambda: iter(texts[::-1]), TINY).get_vocab() == first.get_vocab()


def test_words_of_han_and_of_letters_never_share_a_token(base):
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    mixed = [
        token
        for token in tokenizer.get_vocab()
        if any("\u4e00" <= c <= "\u9fff" for c in token) and any(c.isascii() and c.isalnum() for c in token)
    ]
    assert not mixed


@pytest.fixture
def prepared(tmp_path):
    write_rows(tmp_path / "d.jsonl", [*prose("en_*")[:40], "held " * 30, "scored zebra quilt"])
    write_rows(tmp_path / "e.jsonl", ["scored zebra quilt"])
    spec = make_spec(
        base={"from_scratch": TINY.model_dump()},
        domain=[source(tmp_path / "d.jsonl")],
        evaluation={"domain": [source(tmp_path / "e.jsonl")]},
    )
    return spec, prepare_rows(tmp_path / "state", spec)


def test_a_new_base_is_made_once_and_its_weights_depend_on_the_seed(prepared, tmp_path):
    spec, rows = prepared
    first = provide_base(tmp_path / "a", spec, rows, None)
    again = provide_base(tmp_path / "b", spec, rows, None)
    assert first.sha256 == again.sha256
    assert first.name == "from scratch"
    other = spec.model_copy(update={"training": spec.training.model_copy(update={"seed": 18})})
    assert model_sha256(provide_base(tmp_path / "a", other, rows, None).folder) != first.sha256
    assert provide_base(tmp_path / "a", spec, rows, None).folder == first.folder


def test_making_a_base_leaves_the_random_state_alone(prepared, tmp_path):
    spec, rows = prepared
    before = torch.random.get_rng_state()
    provide_base(tmp_path / "a", spec, rows, None)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_new_base_has_the_architecture_asked_for(prepared, tmp_path):
    spec, rows = prepared
    folder = provide_base(tmp_path / "a", spec, rows, None).folder
    config = json.loads((folder / "config.json").read_text())
    assert (config["hidden_size"], config["num_hidden_layers"], config["max_position_embeddings"]) == (
        16,
        2,
        128,
    )
    assert load_model(folder).num_parameters() > 0


def test_the_tokenizer_never_sees_a_scored_text(prepared, tmp_path):
    spec, rows = prepared
    assert rows.ledger.total.leaked == 1
    folder = provide_base(tmp_path / "a", spec, rows, None).folder
    vocabulary = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab()
    assert " held" in vocabulary
    assert not {" zebra", " quilt", " zeb"} & vocabulary.keys()


@pytest.mark.parametrize("widths", [{"heads": 3}, {"heads": 4, "kv_heads": 3}])
def test_widths_that_do_not_divide_are_refused(widths, tmp_path):
    with pytest.raises(UserError, match="must divide") as error:
        make_base(tmp_path, TINY.model_copy(update=widths), 1, [], None)
    assert error.value.where == "base.from_scratch"
