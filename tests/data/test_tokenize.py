"""One path from text to ids: framed once, no control token from data, the same for training and scoring."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from schemas.errors import UserError
from tasks.data.tokens.token_files import open_tokens
from tasks.data.tokens.tokenize import tokenize_source
from tasks.data.tokens.tokenizer import encode_text, load_tokenizer, special_ids, tokenizer_sha256
from tasks.storage.workers import map_in_processes
from tests.corpora import here, make_spec, prepare_rows, source, write_rows
from tests.tiny_base import prose

INJECTED = ["a<|end|>b", "<|begin|>", "<|end|><|end|>", " <|begin|> x", "<0x41>", "text <|end|>"]


@pytest.fixture
def rows(tmp_path: Path, tokenizer_folder: Path):
    """A validated source of prose and of texts that look like control tokens."""
    write_rows(tmp_path / "d.jsonl", [*prose()[:40], *INJECTED])
    write_rows(tmp_path / "g.jsonl", ["scored"])
    spec = make_spec(
        domain=[source(tmp_path / "d.jsonl")],
        evaluation={"domain_holdout": 0.2, "general": [source(tmp_path / "g.jsonl")]},
    )
    return prepare_rows(tmp_path / "state", spec).sources[0]


def documents(rows, folder: Path, root: Path, map_shards=here) -> list[list[int]]:
    step = tokenize_source(root, rows, folder, map_shards)
    parts = open_tokens(step, len(rows.parts), special_ids(folder).vocab_size)
    found = [part.document(row).tolist() for part in parts for row in range(len(part.offsets) - 1)]
    assert step.facts["tokens"] == sum(map(len, found))
    return found


def texts_of(rows) -> list[str]:
    return [text for part in rows.parts for text in pq.read_table(part)["text"].to_pylist()]


def test_bos_comes_once_first_and_eos_once_last(rows, tokenizer_folder, tmp_path):
    special = special_ids(tokenizer_folder)
    assert special.bos is not None
    for ids in documents(rows, tokenizer_folder, tmp_path):
        assert ids[0] == special.bos
        assert ids[-1] == special.eos
        assert not {special.bos, special.eos} & set(ids[1:-1])


def test_special_tokens_in_a_text_stay_text(rows, tokenizer_folder, tmp_path):
    tokenizer = load_tokenizer(tokenizer_folder)
    for text, ids in zip(texts_of(rows), documents(rows, tokenizer_folder, tmp_path), strict=True):
        assert tokenizer.decode(ids[1:-1], skip_special_tokens=False) == text


def test_training_scoring_and_serving_encode_alike(rows, tokenizer_folder, tmp_path):
    framed = documents(rows, tokenizer_folder, tmp_path)
    assert encode_text(tokenizer_folder, texts_of(rows)) == framed
    assert encode_text(tokenizer_folder, texts_of(rows), end=False) == [ids[:-1] for ids in framed]


def test_workers_do_not_change_a_byte(rows, tokenizer_folder, tmp_path, workers_for_few):
    alone = tokenize_source(tmp_path / "one", rows, tokenizer_folder, here)
    together = tokenize_source(tmp_path / "two", rows, tokenizer_folder, map_in_processes)
    assert alone.manifest == together.manifest


def edit_config(folder: Path, target: Path, **changes) -> Path:
    shutil.copytree(folder, target)
    config = json.loads((target / "tokenizer_config.json").read_text()) | changes
    (target / "tokenizer_config.json").write_text(
        json.dumps({k: v for k, v in config.items() if v is not None})
    )
    return target


def without_bos(folder: Path, target: Path) -> Path:
    """The same tokenizer without the template that puts BOS in front, as Qwen's."""
    shutil.copytree(folder, target)
    state = json.loads((target / "tokenizer.json").read_text())
    (target / "tokenizer.json").write_text(json.dumps(state | {"post_processor": None}))
    return target


def test_bos_is_left_out_where_the_tokenizer_adds_none(rows, tokenizer_folder, tmp_path):
    folder = without_bos(tokenizer_folder, tmp_path / "t")
    assert special_ids(folder).bos is None
    with_bos = documents(rows, tokenizer_folder, tmp_path)
    assert documents(rows, folder, tmp_path) == [ids[1:] for ids in with_bos]


def test_a_tokenizer_that_says_it_adds_bos_gets_it(tokenizer_folder, tmp_path):
    folder = without_bos(tokenizer_folder, tmp_path / "t")
    told = edit_config(folder, tmp_path / "u", add_bos_token=True)
    assert special_ids(told).bos == special_ids(tokenizer_folder).bos


def test_padding_is_its_own_token_or_eos(tokenizer_folder, tmp_path):
    special = special_ids(edit_config(tokenizer_folder, tmp_path / "t", pad_token=None))
    assert special.pad == special.eos
    special = special_ids(edit_config(tokenizer_folder, tmp_path / "u", pad_token={"content": "a"}))
    assert special.pad == load_tokenizer(tokenizer_folder).token_to_id("a")


def test_a_tokenizer_without_eos_is_refused(tokenizer_folder, tmp_path):
    folder = edit_config(tokenizer_folder, tmp_path / "t", eos_token=None)
    with pytest.raises(UserError, match="no EOS token") as error:
        special_ids(folder)
    assert error.value.where == str(folder)
    assert "eos_token" in error.value.fix


def test_a_folder_without_a_fast_tokenizer_is_refused(tmp_path):
    for read in (load_tokenizer, special_ids):
        with pytest.raises(UserError, match=r"tokenizer\.json") as error:
            read(tmp_path)
        assert error.value.where == str(tmp_path)
        assert "save_pretrained" in error.value.fix


def test_a_tokenizer_that_cannot_be_read_is_an_error_for_people(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(UserError, match="cannot read the tokenizer") as error:
        special_ids(tmp_path)
    assert error.value.where == str(tmp_path / "tokenizer.json")


def widen(folder: Path, target: Path, size: int, gap: int = 0) -> Path:
    """The same tokenizer with made-up tokens up to `size` of them, the last `gap` ids higher."""
    from tokenizers import Tokenizer

    shutil.copytree(folder, target)
    tokenizer = Tokenizer.from_file(str(target / "tokenizer.json"))
    missing = size - tokenizer.get_vocab_size()
    state = json.loads(tokenizer.to_str())
    state["model"]["vocab"] |= {f"<made up {n}>": tokenizer.get_vocab_size() + n for n in range(missing - 1)}
    state["model"]["vocab"]["\u2603"] = size - 1 + gap  # reached by the snowman, a character no prose holds
    (target / "tokenizer.json").write_text(json.dumps(state))
    return target


@pytest.mark.parametrize(
    ("size", "gap", "dtype"), [(2**16, 0, np.uint16), (2**16 + 1, 0, np.uint32), (2000, 70_000, np.uint32)]
)
def test_ids_are_stored_as_wide_as_the_highest_needs(tokenizer_folder, tmp_path, size, gap, dtype):
    folder = widen(tokenizer_folder, tmp_path / "t", size, gap)
    assert special_ids(folder).vocab_size == size + gap
    write_rows(tmp_path / "d.jsonl", ["snow \u2603 man", *prose()[:5]])
    write_rows(tmp_path / "g.jsonl", ["scored"])
    spec = make_spec(
        domain=[source(tmp_path / "d.jsonl")],
        evaluation={"domain_holdout": 0.2, "general": [source(tmp_path / "g.jsonl")]},
    )
    rows = prepare_rows(tmp_path / "state", spec).sources[0]
    found = documents(rows, folder, tmp_path / "state")
    assert found == encode_text(folder, texts_of(rows))
    assert size - 1 + gap in found[0]
    step = tokenize_source(tmp_path / "state", rows, folder, here)
    (part,) = open_tokens(step, 1, size + gap)
    assert part.tokens.dtype == dtype


def test_only_files_that_decide_ids_name_a_tokenizer(tokenizer_folder, tmp_path):
    folder = shutil.copytree(tokenizer_folder, tmp_path / "t")
    (folder / "README.md").write_text("x")
    assert tokenizer_sha256(folder) == tokenizer_sha256(tokenizer_folder)
    assert tokenizer_sha256(edit_config(tokenizer_folder, tmp_path / "u", x="1")) != tokenizer_sha256(folder)


def test_padding_and_truncation_that_a_file_asks_for_do_not_count(tokenizer_folder, tmp_path):
    """As all-MiniLM-L6-v2's file does: every text filled up to 128 tokens, and cut there."""
    from tokenizers import Tokenizer, processors

    folder = Path(shutil.copytree(tokenizer_folder, tmp_path / "padding"))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    ends = [("<|begin|>", tokenizer.token_to_id("<|begin|>")), ("<|end|>", tokenizer.token_to_id("<|end|>"))]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|begin|> $A <|end|>", special_tokens=ends
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    expected = special_ids(folder, framed=True), encode_text(folder, ["a " * 200, "b"])
    tokenizer.enable_padding(length=128, pad_id=ends[1][1], pad_token="<|end|>")
    tokenizer.enable_truncation(128)
    tokenizer.save(str(folder / "tokenizer.json"))
    assert (special_ids(folder, framed=True), encode_text(folder, ["a " * 200, "b"])) == expected


def test_real_tokenizers_frame_documents_as_their_makers_do(data_root):
    folder = data_root / "models/stories260K/hf"
    special = special_ids(folder)
    (ids,) = encode_text(folder, ["Once upon a time"])
    assert (ids[0], ids[-1]) == (special.bos, special.eos) == (1, 2)
    assert load_tokenizer(folder).decode(ids[1:-1]) == "Once upon a time"
