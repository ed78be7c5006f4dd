"""A tiny base model on any machine: a real tokenizer trained on the bundled prose, and random Llama weights."""

from collections.abc import Iterator
from pathlib import Path

from schemas.spec.base_model import Scratch, Tokenizer
from tasks.training.models.scratch import _save_random_model, save_tokenizer, train_tokenizer

GENERAL = Path(__file__).parents[1] / "assets" / "general"

TINY = Scratch(
    hidden_size=16,
    intermediate_size=32,
    layers=2,
    heads=2,
    kv_heads=1,
    context_length=128,
    tokenizer=Tokenizer(vocab_size=1024, alphabet_size=400),
)


def prose(pattern: str = "*") -> list[str]:
    """Paragraphs of the project's own prose, English and Chinese."""
    files = sorted(GENERAL.glob(f"*/{pattern}.txt"))
    assert files, "assets/general is part of the project"
    return [line for file in files for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]


def whitespace() -> Iterator[str]:
    """Runs of white space often enough that they merge, as they do in tokenizers made for code."""
    for run in ("\n\n", "\n\n\n\n", "    ", "        ", "\t\t", "\r\n"):
        yield from [f"a{run}b"] * 300


def make_base(folder: Path, scratch: Scratch = TINY, seed: int = 3) -> Path:
    """Write a complete model folder."""
    tokenizer = train_tokenizer(lambda: iter([*prose(), *whitespace()]), scratch)
    folder.mkdir(parents=True)
    save_tokenizer(tokenizer, folder, scratch.context_length)
    _save_random_model(scratch, tokenizer, seed, folder)
    return folder
