"""Read CoNLL columns: a word and its tag a line, a blank line after each sentence. One row is one sentence.

`# ...` lines before a sentence (CoNLL-U, UNER) and `-DOCSTART-` lines (CoNLL-2003) are no words.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

from schemas.errors import UserError
from schemas.spec.records import ReasonCode
from tasks.data.read.entity_tags import split_tag
from tasks.data.read.rows import TOO_LONG, Refusal, Row, decode
from tasks.data.read.stream import MAX_LINE_BYTES, Line

SAMPLE = 200
"""Sentences that decide which columns are words and tags."""
MOST = 0.9
"""A column of tags holds nothing else but for mistakes."""
MAX_SENTENCE_LINES = 100_000
DOCUMENT_MARK = "-DOCSTART-"

Block = tuple[list[Line], bool]
"""Lines between blank lines, and whether they are too long to be held."""


@dataclass(frozen=True)
class Layout:
    """Where words and tags stand in the lines of a file."""

    tab: bool
    """Columns are separated by a tab, else by any white space."""
    width: int
    """Columns of a line."""
    tokens: int
    tags: int

    def cells(self, text: str) -> list[str]:
        return text.split("\t") if self.tab else text.split()


def read_conll(
    file: str, lines: Iterator[Line], encoding: str, columns: dict[str, str | int]
) -> Iterator[Row]:
    """Yield `{"tokens": [...], "tags": [...]}` of every sentence, at the line of its first word.

    Raises:
        UserError: no column holds tags, or there is no such column.
    """
    blocks = _blocks(lines)
    head = list(islice(blocks, SAMPLE))
    if not head:
        return
    layout = find_layout(file, head, encoding, columns)
    for block, is_too_long in chain(head, blocks):
        row = _sentence(block, is_too_long, layout, encoding)
        if row is not None:
            yield row


def find_layout(file: str, head: Sequence[Block], encoding: str, columns: dict[str, str | int]) -> Layout:
    """Tell separator, number of columns, and which of them are words and tags.

    Words are in the first column; in the second, if the first numbers the words of each sentence. Tags are in the
    last column that holds hardly anything else.
    """
    texts = [[decode(line[2] or b"", encoding) for line in block] for block, _ in head]
    rows = [[text for text in block if isinstance(text, str) and not text.startswith(("#", DOCUMENT_MARK))] for block in texts]  # fmt: skip
    every = [text for block in rows for text in block]
    tab = sum("\t" in text for text in every) * 2 >= max(1, len(every))
    plain = Layout(tab, 0, 0, 0)
    widths = Counter(len(plain.cells(text)) for text in every)
    width = widths.most_common(1)[0][0] if widths else 0
    cells = [[row for text in block if len(row := plain.cells(text)) == width] for block in rows]
    where = f"{file}:{head[0][0][0][0]}"
    tokens, tags = columns["tokens"], columns["tags"]
    if isinstance(tokens, int) and isinstance(tags, int):
        for name, number in (("tokens", tokens), ("tags", tags)):
            if number > width:
                what = f"there is no column {number} (columns.{name}): lines have {width}"
                raise UserError(what, where, "count the columns from 1")
        return Layout(tab, width, tokens - 1, tags - 1)
    first = 1 if width > 2 and _is_numbering(cells) else 0
    found = [column for column in range(width - 1, first, -1) if _share_of_tags(cells, column) >= MOST]
    if not found:
        fix = "write which columns they are, such as columns: {tokens: 1, tags: 4}, or another format"
        raise UserError("no column holds only tags such as O, B-PER, I-PER", where, fix)
    return Layout(tab, width, first, found[0])


def _share_of_tags(cells: Sequence[Sequence[Sequence[str]]], column: int) -> float:
    values = [split_tag(row[column].strip()) is not None for block in cells for row in block]
    return sum(values) / max(len(values), 1)


def _is_numbering(cells: Sequence[Sequence[Sequence[str]]]) -> bool:
    """Whether the first column counts the words of every sentence from 1."""
    return all(row[0] == str(number) for block in cells for number, row in enumerate(block, 1))


def _blocks(lines: Iterator[Line]) -> Iterator[Block]:
    held: list[Line] = []
    size, too_long = 0, False
    for line in lines:
        raw = line[2]
        if raw is not None and (not raw or raw.isspace()):
            if held:
                yield held, too_long
            held, size, too_long = [], 0, False
            continue
        size += MAX_LINE_BYTES + 1 if raw is None else len(raw) + 1
        too_long = too_long or size > MAX_LINE_BYTES or len(held) >= MAX_SENTENCE_LINES
        if not held or not too_long:
            held.append(line)
    if held:
        yield held, too_long


def _sentence(block: list[Line], is_too_long: bool, layout: Layout, encoding: str) -> Row | None:
    """One sentence as a row; None if the block holds no word."""
    if is_too_long:
        return block[0][0], block[0][1], TOO_LONG
    tokens: list[str] = []
    tags: list[str] = []
    start: tuple[int, int] | None = None
    for number, offset, raw, _ in block:
        text = decode((raw or b"").removesuffix(b"\r"), encoding)
        if isinstance(text, Refusal):
            return *(start or (number, offset)), text
        cells = layout.cells(text)
        if start is None and _is_no_word(text, cells, layout):
            continue
        start = start or (number, offset)
        if len(cells) != layout.width:
            detail = f"line {number} has {len(cells)} columns, the file has {layout.width}"
            return *start, Refusal(ReasonCode.WRONG_COLUMN_COUNT, detail)
        tokens.append(cells[layout.tokens].strip())
        tags.append(cells[layout.tags].strip())
    if start is None:
        return None
    return *start, {"tokens": tokens, "tags": tags}


def _is_no_word(text: str, cells: list[str], layout: Layout) -> bool:
    """Whether a line before a sentence's first word is a comment (a hashtag is a word) or marks a document."""
    if text.startswith("#"):
        return len(cells) != layout.width or split_tag(cells[layout.tags].strip()) is None
    return text.startswith(DOCUMENT_MARK)
