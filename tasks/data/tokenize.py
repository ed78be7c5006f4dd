"""Turn validated rows into token ids, in worker processes, once per (rows, tokenizer).

One path for training, scoring and serving: ids = [BOS if the tokenizer adds one] + text + [EOS]. For a head on an
encoder the tokenizer's own frame is used, such as [CLS] + text + [SEP]. Special tokens that occur inside a text are
ordinary text. Instructions: see `prompts`.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from schemas.errors import UserError
from schemas.records import RecordKind
from tasks.data.growth import require_bounded_growth
from tasks.data.loading import encoding, loading
from tasks.data.model_folder import read_config, view
from tasks.data.reading import run_missing
from tasks.data.sources import PreparedSource
from tasks.storage.code import code_version
from tasks.storage.hashing import sha256_files
from tasks.storage.steps import MADE_OF, Step, StepPlan, run_step
from tasks.storage.workers import ShardMap, fitting, map_in_processes

if TYPE_CHECKING:
    from tasks.data.chunk_cache import Encoder
    from tasks.data.prompts import Frame


@dataclass(frozen=True)
class SpecialIds:
    """The ids that frame a document."""

    bos: int | None
    eos: int
    pad: int
    vocab_size: int
    """One more than the highest id."""


@dataclass(frozen=True)
class TokenPart:
    """Tokens of one parquet part: row i has ids tokens[offsets[i]:offsets[i + 1]]."""

    tokens: npt.NDArray[Any]  # (total,) uint16 or uint32, memory-mapped
    offsets: npt.NDArray[np.int64]  # (rows + 1,)
    words: npt.NDArray[np.int32] | None = None
    """(total,) for tagged words: the word whose first id this is, NO_WORD at every other id."""
    contexts: npt.NDArray[np.int32] | None = None
    """(rows,) for instructions: ids of the prompt, which are context and no labels. Of other rows it is the first id."""

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """Label tokens of each row, (rows,)."""
        ids: npt.NDArray[np.int64] = np.diff(self.offsets)
        return ids - 1 if self.contexts is None else ids - self.contexts

    def context(self, row: int) -> int:
        """Ids of a row that are context only."""
        return 1 if self.contexts is None else int(self.contexts[row])

    def document(self, row: int) -> npt.NDArray[Any]:
        return self.tokens[self.offsets[row] : self.offsets[row + 1]]

    def words_of(self, row: int) -> npt.NDArray[np.int32]:
        """Of tagged words: the word whose first id each id of the row is."""
        assert self.words is not None
        return self.words[self.offsets[row] : self.offsets[row + 1]]


def tokenizer_sha256(folder: Path) -> str:
    """sha256 over the files that decide ids."""
    names = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
    return sha256_files({name: folder / name for name in names if (folder / name).is_file()})


def load_tokenizer(folder: Path) -> Any:
    """The tokenizers.Tokenizer of a model folder, special tokens in texts switched off.

    Raises:
        UserError: the folder has no tokenizer.json, or it cannot be read.
    """
    tokenizer = _read_tokenizer(folder)
    tokenizer.encode_special_tokens = True
    return tokenizer


def _read_tokenizer(folder: Path) -> Any:
    from tokenizers import Tokenizer

    file = folder / "tokenizer.json"
    if not file.is_file():
        raise UserError(
            "the base model has no fast tokenizer (tokenizer.json)",
            str(folder),
            "convert it once: AutoTokenizer.from_pretrained(folder).save_pretrained(folder)",
        )
    with loading("cannot read the tokenizer", file, "fetch or convert it again"):
        tokenizer = Tokenizer.from_file(str(file))
        require_bounded_growth(tokenizer, file)
        tokenizer.no_padding()  # some files ask for it: those of sentence encoders fill every text up to 128 tokens
        tokenizer.no_truncation()
        if not tokenizer.get_vocab():
            raise ValueError("it has no tokens")
        tokenizer.encode("a")  # what its parts say of one another shows when they work
    return tokenizer


def load_auto_tokenizer(folder: Path) -> Any:
    """transformers' tokenizer of a model folder, made of the files that are hashed.

    Raises:
        UserError: there is none, or transformers cannot read it.
    """
    from transformers import AutoTokenizer

    _read_tokenizer(folder)
    fix = "fetch it again, or save it anew with save_pretrained"
    with view(folder) as shown, loading("cannot read the tokenizer", folder, fix, shown):
        tokenizer = AutoTokenizer.from_pretrained(shown, trust_remote_code=False, local_files_only=True)
        tokenizer.name_or_path = str(folder)
    return tokenizer


def highest_id(folder: Path) -> tuple[int, str]:
    """The highest id that a tokenizer gives, and its token."""
    told = (folder / "tokenizer.json").stat()
    return _highest_id(folder.absolute(), told.st_mtime_ns, told.st_size)


@functools.lru_cache(maxsize=8)
def _highest_id(folder: Path, modified: int, size: int) -> tuple[int, str]:  # noqa: ARG001
    return max((number, token) for token, number in _read_tokenizer(folder).get_vocab().items())


def special_ids(folder: Path, framed: bool = False) -> SpecialIds:
    """Read BOS, EOS and PAD; BOS only where the tokenizer itself adds one.

    `framed` (for heads): where the tokenizer itself ends a text with a token, as encoders' do ([SEP]), its own first
    and last tokens are taken for BOS and EOS.

    Raises:
        UserError: there is no tokenizer, or it has no EOS token (the model could never learn to stop).
    """
    tokenizer = _read_tokenizer(folder)
    config = read_config(folder / "tokenizer_config.json")

    def find(name: str) -> int | None:
        token = config.get(name)
        content = token.get("content") if isinstance(token, dict) else token
        if content is not None and not isinstance(content, str):
            what = f"{name} in tokenizer_config.json is no text"
            raise UserError(what, str(folder / "tokenizer_config.json"), "write the token itself there")
        return tokenizer.token_to_id(content) if content else None

    eos = find("eos_token")
    highest = max(tokenizer.get_vocab().values())  # not their number: some vocabularies have gaps
    pad = find("pad_token")
    if framed and (frame := _own_frame(tokenizer, folder)) is not None:
        return SpecialIds(frame[0], frame[1], frame[1] if pad is None else pad, highest + 1)
    if eos is None:
        raise UserError(
            "the tokenizer has no EOS token", str(folder), "set eos_token in tokenizer_config.json"
        )
    bos = find("bos_token")
    whole, plain = tokenizer.encode("a").ids, tokenizer.encode("a", add_special_tokens=False).ids
    adds_bos = bool(config.get("add_bos_token")) or (whole[:1] == [bos] and plain[:1] != [bos])
    return SpecialIds(bos if adds_bos else None, eos, eos if pad is None else pad, highest + 1)


def _own_frame(tokenizer: Any, folder: Path) -> tuple[int | None, int] | None:
    """First and last id that the tokenizer puts around a text by itself; None if it puts none behind it."""
    encoded = tokenizer.encode("a")
    inside = [place for place, special in enumerate(encoded.special_tokens_mask) if not special]
    if not inside:
        raise UserError(
            "the tokenizer gives no token for 'a'", str(folder / "tokenizer.json"), "fetch it again"
        )
    head, tail = encoded.ids[: inside[0]], encoded.ids[inside[-1] + 1 :]
    if not tail:
        return None
    if len(head) > 1 or len(tail) > 1:
        what = f"the tokenizer puts {len(head)} tokens before a text and {len(tail)} behind it"
        raise UserError(what, str(folder / "tokenizer.json"), "use a model whose tokenizer puts one at most")
    return (head[0] if head else None), tail[0]


def tokenize_source(
    root: Path,
    source: PreparedSource,
    tokenizer_folder: Path,
    map_shards: ShardMap = map_in_processes,
    record: RecordKind = "text",
    frame: "Frame | None" = None,
) -> Step:
    """Tokenise every validated row of a source, each file once (whatever its fate: a new split tokenises nothing).

    Tagged words are encoded one by one, so that each id belongs to one word. Prompts of instructions stand in a frame.
    """
    sha256, version = tokenizer_sha256(tokenizer_folder), code_version(__name__)
    settings = [record, None if frame is None else asdict(frame)]
    plans = [
        StepPlan(root, "encode", {"rows": key, "tokenizer": sha256}, settings, version)
        for key, _ in source.steps
    ]
    parts = {plan.key: own for plan, (_, own) in zip(plans, source.steps, strict=True)}

    def encode(missing: Sequence[StepPlan]) -> None:
        jobs = [(plan, str(part)) for plan in missing for part in parts[plan.key]]
        scratch = missing[0].scratch
        work_one = _work(record, tokenizer_folder, scratch, frame)
        size = sum(Path(part).stat().st_size for _, part in jobs)
        numbered = [(part, number) for number, (_, part) in enumerate(jobs)]
        counts = fitting(map_shards, size)(work_one, numbered)
        written = _by_number(scratch)
        for plan in missing:
            numbers = [number for number, (owner, _) in enumerate(jobs) if owner is plan]
            files = [written[number] for number in numbers]
            tokens = sum(counts[number] for number in numbers)
            run_step(plan, functools.partial(_put_in_place, files, tokens))

    steps = run_missing(root, plans, encode)
    merged = StepPlan(
        root=root,
        name="tokenize",
        inputs={"rows": source.validated.key, "tokenizer": sha256},
        settings=[step.key for step in steps],
        code=version,
    )
    return run_step(merged, functools.partial(_merge, steps))


def _work(
    record: RecordKind, tokenizer_folder: Path, out: Path, frame: "Frame | None"
) -> Callable[[tuple[str, int]], int]:
    """What workers do with (part, number): write its `tokens-N.bin` and what belongs to it, and count its tokens."""
    from tasks.data.prompts import frame_work
    from tasks.data.words import tokenize_words

    folder, to = str(tokenizer_folder), str(out)
    if record == "tagged_tokens":
        return functools.partial(tokenize_words, tokenizer_folder=folder, out=to)
    if record == "instruction":
        assert frame is not None
        return frame_work(tokenizer_folder, out, frame)
    return functools.partial(tokenize_part, tokenizer_folder=folder, out=to, framed=record == "labeled_text")


def _by_number(folder: Path) -> dict[int, list[Path]]:
    """The files that were written of each part."""
    found: dict[int, list[Path]] = {}
    for file in sorted(folder.iterdir()):
        found.setdefault(int(file.stem.rpartition("-")[2]), []).append(file)
    return found


def _put_in_place(files: Sequence[Sequence[Path]], tokens: int, folder: Path) -> dict[str, Any]:
    """Move what was written of some parts into a step's folder, numbered from 0."""
    for number, of_part in enumerate(files):
        for file in of_part:
            file.rename(folder / f"{file.stem.rpartition('-')[0]}-{number:05d}{file.suffix}")
    return {"tokens": tokens, "parts": len(files)}


def _merge(steps: Sequence[Step], _folder: Path) -> dict[str, Any]:
    """The tokens of a source: those of its files, which stay where they are."""
    return {
        "tokens": sum(step.facts["tokens"] for step in steps),
        MADE_OF: [step.folder.name for step in steps],
        "parts": [
            (place, number) for place, step in enumerate(steps) for number in range(step.facts["parts"])
        ],
    }


def token_file(step: Step, part: int, kind: str, suffix: str = "npy") -> Path:
    """A file of a tokenised source: `kind` (tokens, offsets, words, contexts) of one of its parts."""
    place, number = step.facts["parts"][part]
    return step.folder.parent / str(step.facts[MADE_OF][place]) / f"{kind}-{number:05d}.{suffix}"


def tokenize_part(job: tuple[str, int], tokenizer_folder: str, out: str, framed: bool = False) -> int:
    """Tokenise one parquet part into `tokens-N.bin` and `offsets-N.npy`; return the number of tokens."""
    from tasks.data.chunk_cache import choose_encoder

    part, number = job
    folder = Path(tokenizer_folder)
    special = special_ids(folder, framed)
    dtype = np.uint16 if special.vocab_size <= 2**16 else np.uint32
    with encoding(folder):
        encode = choose_encoder(_encoders(folder, tokenizer_sha256(folder), dtype), part_texts(Path(part)))
    head = b"" if special.bos is None else np.array([special.bos], dtype).tobytes()
    tail = np.array([special.eos], dtype).tobytes()
    lengths: list[int] = []
    with (Path(out) / f"tokens-{number:05d}.bin").open("wb") as file, encoding(folder):
        for texts in part_texts(Path(part)):
            rows = [head + ids + tail for ids in encode(texts)]
            file.write(b"".join(rows))
            lengths += [len(row) // dtype().itemsize for row in rows]
    np.save(
        Path(out) / f"offsets-{number:05d}.npy", np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    )
    return sum(lengths)


@functools.lru_cache(maxsize=1)
def _encoders(folder: Path, sha256: str, dtype: type[np.unsignedinteger[Any]]) -> "list[Encoder]":  # noqa: ARG001
    """What a process has learnt of a tokenizer (`sha256` tells it from its earlier self) serves its next part."""
    from tasks.data.chunk_cache import list_encoders

    return list_encoders(load_tokenizer(folder), dtype)


def part_texts(part: Path) -> Iterator[list[str]]:
    """Texts of a parquet part, a row group at a time (a few megabytes)."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(part) as file:
        for group in range(file.num_row_groups):
            yield file.read_row_group(group, columns=["text"]).column(0).to_pylist()


def open_tokens(step: Step, num_parts: int, vocab_size: int) -> list[TokenPart]:
    """Map the token files of a tokenised source into memory."""
    dtype = np.uint16 if vocab_size <= 2**16 else np.uint32
    opened = []
    for number in range(num_parts):
        offsets = np.load(token_file(step, number, "offsets"))
        file = token_file(step, number, "tokens", "bin")
        tokens = np.memmap(file, dtype, "r") if offsets[-1] else np.zeros(0, dtype)
        beside = token_file(step, number, "words")
        words = np.load(beside, mmap_mode="r") if beside.is_file() else None
        beside = token_file(step, number, "contexts")
        contexts = np.load(beside) if beside.is_file() else None
        opened.append(TokenPart(tokens, offsets, words, contexts))
    return opened


def encode_text(
    tokenizer_folder: Path, texts: Sequence[str], end: bool = True, framed: bool = False
) -> list[list[int]]:
    """Encode texts just as training does; `end=False` leaves EOS out, to be continued by generation. `framed`: as heads
    read them."""
    tokenizer, special = load_tokenizer(tokenizer_folder), special_ids(tokenizer_folder, framed)
    head = [] if special.bos is None else [special.bos]
    tail = [special.eos] if end else []
    with encoding(tokenizer_folder):
        encoded = tokenizer.encode_batch(list(texts), add_special_tokens=False)
    return [head + one.ids + tail for one in encoded]
