"""Tokenise tagged words: every id belongs to one word, and the first of each word carries its tag."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tasks.data.model.loading import encoding
from tasks.data.tokens.tokenizer import load_tokenizer, special_ids

NO_WORD = -1
_PAIRS = (("the", "cat"), ("and", "river"), ("in", "the"))


def tokenize_words(job: tuple[str, int], tokenizer_folder: str, out: str) -> int:
    """Tokenise one parquet part into `tokens-N.bin`, `offsets-N.npy` and `words-N.npy`; return the number of tokens.

    A word that the tokenizer gives no id (a control character, say) has none, and so no tag is learnt for it.
    """
    part, number = job
    folder = Path(tokenizer_folder)
    special = special_ids(folder, framed=True)
    tokenizer = load_tokenizer(folder)
    dtype = np.uint16 if special.vocab_size <= 2**16 else np.uint32
    with encoding(folder):
        space = word_space(tokenizer)
    head = [] if special.bos is None else [special.bos]
    lengths: list[int] = []
    firsts: list[int] = []
    with (Path(out) / f"tokens-{number:05d}.bin").open("wb") as file, encoding(folder):
        for rows in part_words(Path(part)):
            spelt = [spell(words, space) for words in rows]
            known = sorted({piece for pieces in spelt for piece in pieces})
            encoded = tokenizer.encode_batch_fast(known, add_special_tokens=False)
            ids_of = {piece: encoding.ids for piece, encoding in zip(known, encoded, strict=True)}
            for pieces in spelt:
                ids, words = list(head), [NO_WORD] * len(head)
                for word, piece in enumerate(pieces):
                    found = ids_of[piece]
                    ids += found
                    words += [word, *([NO_WORD] * (len(found) - 1))] if found else []
                ids.append(special.eos)
                words.append(NO_WORD)
                file.write(np.array(ids, dtype).tobytes())
                lengths.append(len(ids))
                firsts += words
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    np.save(Path(out) / f"offsets-{number:05d}.npy", offsets)
    np.save(Path(out) / f"words-{number:05d}.npy", np.array(firsts, np.int32))
    return sum(lengths)


def part_words(part: Path, column: str = "tokens") -> Iterator[list[list[str]]]:
    """Words (or tags) of a parquet part's rows, a row group at a time."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(part) as file:
        for group in range(file.num_row_groups):
            yield file.read_row_group(group, columns=[column]).column(0).to_pylist()


def spell(words: Sequence[str], space: str) -> list[str]:
    """Each word as it stands in a text: behind a blank, but at the start and next to a character written without one."""
    spelt = []
    before = ""
    for word in words:
        unspaced = not before or is_unspaced(before[-1]) or is_unspaced(word[0])
        spelt.append(word if unspaced else space + word)
        before = word
    return spelt


def is_unspaced(character: str) -> bool:
    """Whether a character belongs to a script without blanks between words: Chinese, Japanese and their punctuation."""
    code = ord(character)
    return (
        0x2E80 <= code < 0xA000
        or 0xF900 <= code < 0xFB00
        or 0xFE30 <= code < 0xFE50
        or 0xFF00 <= code < 0x30000
    )


def word_space(tokenizer: Any) -> str:
    """What to write before a word inside a text, so that words encoded alone give the ids of the whole text.

    Byte-level tokenizers keep the blank with the word; WordPiece ones drop it; SentencePiece ones put their own.
    """

    def ids(text: str) -> list[int]:
        found: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
        return found

    def agrees(space: str) -> bool:
        return all(ids(f"{one} {two}") == ids(one) + ids(space + two) for one, two in _PAIRS)

    return "" if agrees("") else " "
