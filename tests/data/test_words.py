"""Every id belongs to one word, and only a word's first id says so."""

import numpy as np
import pytest

from schemas.errors import UserError
from tasks.data.tokens.tagged_words import NO_WORD, is_unspaced, spell, word_space
from tasks.data.tokens.token_files import open_tokens
from tasks.data.tokens.tokenize import tokenize_source
from tasks.data.tokens.tokenizer import load_tokenizer, special_ids
from tests.corpora import here, make_spec, prepare_rows, source
from tests.tiny_base import prose
from tests.tiny_encoder import train_wordpiece
from tests.toy_heads import write_tagged

ROWS = [
    (["Anna", "visited", "上海", "昨天", "!"], ["B-PER", "O", "B-LOC", "O", "O"]),
    (["reconsiderations", "\u200b", "the"], ["O", "O", "O"]),
]


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    train_wordpiece(prose()).save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"pad_token": "[PAD]", "unk_token": "[UNK]"}')
    return folder


def tokenized(tmp_path, folder):
    write_tagged(tmp_path / "a.conll", ROWS * 12)
    spec = make_spec(
        objective={"kind": "token_classification"},
        domain=[source(tmp_path / "a.conll")],
        evaluation={"domain_holdout": 0.5},
    )
    prepared = prepare_rows(tmp_path / "state", spec)
    step = tokenize_source(tmp_path / "state", prepared.sources[0], folder, here, "tagged_tokens")
    special = special_ids(folder, framed=True)
    (part,) = open_tokens(step, 1, special.vocab_size)
    return part, special


@pytest.mark.parametrize("kind", ["encoder", "causal"])
def test_the_ids_of_a_word_are_its_own_and_the_first_is_marked(tmp_path, request, kind) -> None:
    folder = request.getfixturevalue("encoder_folder" if kind == "encoder" else "tokenizer_folder")
    part, special = tokenized(tmp_path, folder)
    tokenizer = load_tokenizer(folder)
    space = word_space(tokenizer)
    for row, (words, _) in enumerate(ROWS):
        ids, marks = part.document(row).tolist(), part.words_of(row).tolist()
        assert (ids[0], ids[-1]) == (special.bos, special.eos)
        assert (marks[0], marks[-1]) == (NO_WORD, NO_WORD)
        pieces = [tokenizer.encode(piece, add_special_tokens=False).ids for piece in spell(words, space)]
        assert ids[1:-1] == [i for piece in pieces for i in piece]
        assert marks[1:-1] == [
            word if at == 0 else NO_WORD for word, piece in enumerate(pieces) for at in range(len(piece))
        ]
        assert len(pieces[0]) > 1 or row == 0, "some word has several ids, or the marks prove nothing"


def test_words_apart_give_the_ids_of_the_whole_text(encoder_folder, tokenizer_folder) -> None:
    text = "The river ran through the old market and we walked home in the evening"
    for folder in (encoder_folder, tokenizer_folder):
        tokenizer = load_tokenizer(folder)
        pieces = spell(text.split(), word_space(tokenizer))
        apart = [i for piece in pieces for i in tokenizer.encode(piece, add_special_tokens=False).ids]
        assert apart == tokenizer.encode(text, add_special_tokens=False).ids


def test_chinese_words_stand_without_blanks() -> None:
    assert spell(["In", "上海", "，", "昨天", "it", "rained", "."], " ") == [
        "In", "上海", "，", "昨天", "it", " rained", " ."
    ]  # fmt: skip
    assert [is_unspaced(c) for c in "中。，ぁＡ𠀀aé—7"] == [True] * 6 + [False] * 4


def test_a_head_uses_the_tokenizers_own_frame_and_language_modelling_its_eos(
    encoder_folder, tokenizer_folder
) -> None:
    tokenizer = load_tokenizer(encoder_folder)
    special = special_ids(encoder_folder, framed=True)
    names = ("[CLS]", "[SEP]", "[PAD]")
    assert [special.bos, special.eos, special.pad] == [tokenizer.token_to_id(name) for name in names]
    with pytest.raises(UserError, match="no EOS token"):
        special_ids(encoder_folder)
    assert special_ids(tokenizer_folder, framed=True) == special_ids(tokenizer_folder)


def test_a_dropped_word_has_no_mark(tmp_path, encoder_folder) -> None:
    part, _ = tokenized(tmp_path, encoder_folder)
    assert set(part.words_of(1).tolist()) == {NO_WORD, 0, 2}, "the zero-width space has no id"
    assert np.diff(part.offsets).sum() == len(part.words)
