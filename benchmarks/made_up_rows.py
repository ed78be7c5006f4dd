"""Generate a large JSONL file that is as hard to read and tokenise as real text, the same bytes for the same seed.

English rows are drawn by Zipf's law from a lexicon whose commonest words are those of the project's own prose, in the
order of their frequency there; the long tail is made of halves of real words and of numbers. The law has two regimes
(Ferrer i Cancho and Sole, 2001), so that new words keep coming as they do in real text: 100,000 words hold 20,700
distinct ones, in BoolQ's passages and in LAMBADA's books 20,800 and 19,500 (of 96,500 and 89,000 words;
`python -m benchmarks.made_up_rows FILE` counts those of a text file).
Chinese rows are strung together from short spans of the Chinese prose. A few rows are dirty, a few are duplicates.
"""

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import orjson

PROSE = Path(__file__).parents[1] / "assets" / "general" / "replay"
LEXICON_WORDS = 2_000_000
ZIPF_EXPONENTS = (1.05, 1.5)
RARE_RANK = 8000  # where the second exponent begins
WORDS_PER_PARAGRAPH = 80
MEAN_ENGLISH_WORDS = 195
MEAN_CHINESE_SPANS = 80
CHINESE_RATIO = 0.2
DIRTY_RATIO = 0.005
DUPLICATE_RATIO = 0.02
ROWS_PER_BLOCK = 5000
SITES = ("news.example", "forum.example", "manual.example", "archive.example")

Generator = np.random.Generator


def write_rows(file: Path, num_rows: int, seed: int) -> None:
    """Write `num_rows` lines of about 1.17 KB."""
    temporary = file.with_suffix(".tmp")
    with temporary.open("wb") as out:
        for number, text, kind in _texts(num_rows, seed):
            out.write(_line(number, text, kind) + b"\n")
    temporary.rename(file)


def _texts(num_rows: int, seed: int) -> Iterator[tuple[int, str, str]]:
    """Yield (row number, text, what is wrong with the row or "")."""
    random = np.random.default_rng(seed)
    words, cumulative = make_lexicon(random)
    chinese = "".join(file.read_text() for file in sorted(PROSE.glob("zh_*.txt"))).replace("\n", "")
    earlier: list[str] = []
    for start in range(0, num_rows, ROWS_PER_BLOCK):
        rows = min(ROWS_PER_BLOCK, num_rows - start)
        english_texts = _english(rows, words, cumulative, random)
        dice = random.random((rows, 3))
        for row in range(rows):
            text = english_texts[row] if dice[row, 0] >= CHINESE_RATIO else _chinese(chinese, random)
            if dice[row, 1] < DUPLICATE_RATIO and earlier:
                text = earlier[int(random.integers(len(earlier)))]
                text = text.replace("\n\n", " \n ") if dice[row, 1] < DUPLICATE_RATIO / 4 else text
            elif row % 10 == 0:
                earlier.append(text)
            dirty = dice[row, 2] < DIRTY_RATIO
            yield start + row, text, str(random.choice(DIRTY_KINDS)) if dirty else ""
        del earlier[:-5000]


DIRTY_KINDS = ("cut", "no text", "not a string", "blank", "nul", "not utf-8", "surrogate", "null")


def _line(number: int, text: str, kind: str) -> bytes:
    row = {
        "id": f"doc-{number:08d}",
        "url": f"https://{SITES[number % 4]}/{number % 977}/{number:x}.html",
        "date": f"20{number % 26:02d}-{number % 12 + 1:02d}-{number % 28 + 1:02d}",
        "language": "en" if text.isascii() else "zh",
        "score": round(number % 1000 / 1000, 3),
        "text": text,
    }
    match kind:
        case "no text":
            del row["text"]
        case "not a string":
            row["text"] = [number]
        case "null":
            row["text"] = None
        case "blank":
            row["text"] = " \t "
        case "nul":
            row["text"] = text[:50] + "\x00" + text[50:]
    line = orjson.dumps(row)
    match kind:
        case "cut":
            return line[:-30]
        case "not utf-8":
            return line[:-10] + b"\xff" + line[-10:]
        case "surrogate":
            return line[:-2] + b'\\ud800"}'
    return line


def make_lexicon(random: Generator) -> tuple[npt.NDArray[np.object_], npt.NDArray[np.float64]]:
    """Words by rank, (words,), and the cumulative distribution of Zipf's law over them."""
    prose = " ".join(file.read_text() for file in sorted(PROSE.glob("en_*.txt"))).split()
    real = [word for word, _ in Counter(prose).most_common()]
    stems = [word[: max(2, len(word) * 2 // 3)] for word in real if word[0].isalpha()]
    endings = [word[max(1, len(word) // 2) :] for word in real if len(word) > 3]
    wanted = LEXICON_WORDS - len(real)
    left, right = random.integers(len(stems), size=wanted), random.integers(len(endings), size=wanted)
    tail = [stems[i] + endings[j] for i, j in zip(left.tolist(), right.tolist(), strict=True)]
    tail[::12] = [str(number) for number in random.integers(1, 100_000, size=len(tail[::12])).tolist()]
    words = np.array([*real, *tail], object)
    ranks = np.arange(len(words)) + 2.7
    common, rare = ZIPF_EXPONENTS
    weights = np.where(ranks < RARE_RANK, ranks**-common, RARE_RANK ** (rare - common) * ranks**-rare)
    cumulative = np.cumsum(weights)
    return words, cumulative / cumulative[-1]


def _english(
    rows: int, words: npt.NDArray[np.object_], cumulative: npt.NDArray[np.float64], random: Generator
) -> list[str]:
    lengths = _lengths(rows, MEAN_ENGLISH_WORDS, random)
    drawn = words[np.searchsorted(cumulative, random.random(int(lengths.sum())))].tolist()
    texts, start = [], 0
    for length in lengths.tolist():
        stop = start + length
        paragraphs = (
            " ".join(drawn[at : min(at + WORDS_PER_PARAGRAPH, stop)])
            for at in range(start, stop, WORDS_PER_PARAGRAPH)
        )
        texts.append("\n\n".join(paragraphs))
        start = stop
    return texts


def _chinese(prose: str, random: Generator) -> str:
    spans = int(_lengths(1, MEAN_CHINESE_SPANS, random)[0])
    starts, sizes = random.integers(len(prose) - 8, size=spans), random.integers(2, 8, size=spans)
    return "".join(
        prose[start : start + size] for start, size in zip(starts.tolist(), sizes.tolist(), strict=True)
    )


def _lengths(rows: int, mean: float, random: Generator) -> npt.NDArray[np.int64]:
    """Log-normal, as document lengths are."""
    sigma = 0.8
    drawn = np.exp(random.normal(np.log(mean) - sigma**2 / 2, sigma, rows))
    return np.clip(drawn, 8, 20 * mean).astype(np.int64)


def _compare_growth(file: Path) -> None:
    """Print how many distinct words the first n words of a file have, and of as much generated English."""
    random = np.random.default_rng(0)
    real = file.read_text(encoding="utf-8").split()
    words, cumulative = make_lexicon(random)
    drawn = words[np.searchsorted(cumulative, random.random(len(real)))].tolist()
    for count in (10_000, 30_000, 100_000, 200_000):
        if count <= len(real):
            print(f"{count} words: {len(set(real[:count]))} distinct there, {len(set(drawn[:count]))} here")


if __name__ == "__main__":
    _compare_growth(Path(sys.argv[1]))
