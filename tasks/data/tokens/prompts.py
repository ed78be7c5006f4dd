"""What stands around a prompt, and its ids: one path for training, scoring and generating.

A document is the ids of the framed prompt, those of the response, and EOS. The two are encoded apart, so that the ids of
a prompt are the same when it is trained on and when it is to be answered.
"""

import functools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from schemas.errors import UserError
from tasks.data.model.folder import PROMPT_FILE, read_config
from tasks.data.tokens.chat_template import TemplateFailed, render
from tasks.data.tokens.tokenizer import load_auto_tokenizer, load_tokenizer, special_ids

__all__ = ["PROMPT_FILE"]

DATE = "26 Jul 2024"
"""What templates that write a date write (Llama's own default): prompts must not differ from day to day."""
_MARKS = ("a-prompt-stands-here", "another stands here")

Asked = tuple[str, str]
"""A prompt, and its context (empty if there is none)."""


@dataclass(frozen=True)
class Frame:
    """What stands around a prompt."""

    template: Literal["plain", "chat"]
    before: str
    after: str

    def body(self, prompt: str, context: str) -> str:
        """What is put into the frame."""
        if not context:
            return prompt
        return f"{prompt}\n\n### Input:\n{context}" if self.template == "plain" else f"{prompt}\n\n{context}"


PLAIN = Frame("plain", "### Instruction:\n", "\n\n### Response:\n")


def find_frame(folder: Path, template: Literal["plain", "chat"]) -> Frame:
    """The frame of a template; `chat` is the tokenizer's own, rendered by transformers in its sandbox.

    A template that knows `enable_thinking` (Qwen3's) is told false: responses in the data hold no thinking, and the
    empty thinking block belongs to the prompt.

    Raises:
        UserError: the tokenizer has no chat template, or one that does not show a message as it is.
    """
    if template == "plain":
        return PLAIN
    tokenizer = load_auto_tokenizer(folder)
    source, file = tokenizer.chat_template, _template_file(folder)
    if not source:
        raise UserError(
            "the base's tokenizer has no chat template",
            f"objective.template, base {folder}",
            "write template: plain, or choose a base that was made for chat",
        )
    if isinstance(source, dict):
        source = source.get("default", "")
    if not isinstance(source, str):
        raise _unusable(file, "it is no text")
    if "strftime_now" in source and "date_string" not in source:
        raise _unusable(file, "it writes today's date, so prompts would differ from day to day")
    first, second = _around(tokenizer, source, file)
    if first != second:
        raise _unusable(file, "what it writes around a message depends on the message")
    return Frame("chat", *first)


def _template_file(folder: Path) -> Path:
    """Where the template stands."""
    file = folder / "chat_template.jinja"
    return file if file.is_file() else folder / "tokenizer_config.json"


def _around(tokenizer: Any, source: str, file: Path) -> list[tuple[str, str]]:
    """What the template writes before and behind each of two messages."""
    given = {**tokenizer.special_tokens_map, "enable_thinking": False, "date_string": DATE}
    try:
        rendered = render(source, [[{"role": "user", "content": mark}] for mark in _MARKS], given)
    except TemplateFailed as error:
        raise _unusable(file, str(error)) from None
    found = []
    for text, mark in zip(rendered, _MARKS, strict=True):
        parts = text.split(mark)
        if len(parts) != 2:
            raise _unusable(file, f"it writes a message {len(parts) - 1} times")
        found.append((parts[0], parts[1]))
    return found


def _unusable(file: Path, why: str) -> UserError:
    return UserError(
        f"the base's chat template cannot be used: {why}", str(file), "write objective.template: plain"
    )


def prompt_encoder(folder: Path, frame: Frame) -> Callable[[Sequence[Asked]], list[list[int]]]:
    """Make the function that gives the ids of framed prompts.

    Special tokens of a chat template are such; those that occur in a prompt are ordinary text. A plain frame is
    ordinary text behind BOS, where the tokenizer adds one; a chat template writes its own.
    """
    literal = load_tokenizer(folder)
    bos = special_ids(folder).bos
    if frame.template == "plain":
        head = [] if bos is None else [bos]

        def encode_plain(rows: Sequence[Asked]) -> list[list[int]]:
            texts = [frame.before + frame.body(*row) + frame.after for row in rows]
            return [head + e.ids for e in literal.encode_batch_fast(texts, add_special_tokens=False)]

        return encode_plain
    parsing = load_tokenizer(folder)
    parsing.encode_special_tokens = False
    specials = [token.content for token in parsing.get_added_tokens_decoder().values() if token.special]
    before, after = (
        parsing.encode(text, add_special_tokens=False).ids for text in (frame.before, frame.after)
    )

    def encode_chat(rows: Sequence[Asked]) -> list[list[int]]:
        bodies = [frame.body(*row) for row in rows]
        whole = parsing.encode_batch_fast(
            [frame.before + body + frame.after for body in bodies], add_special_tokens=False
        )
        return [
            before + literal.encode(body, add_special_tokens=False).ids + after
            if any(special in body for special in specials)
            else encoded.ids
            for body, encoded in zip(bodies, whole, strict=True)
        ]

    return encode_chat


def tokenize_instructions(job: tuple[str, int], tokenizer_folder: str, out: str, frame: Frame) -> int:
    """Tokenise one parquet part into `tokens-N.bin`, `offsets-N.npy` and `contexts-N.npy`; return the number of tokens."""
    part, number = job
    folder = Path(tokenizer_folder)
    special = special_ids(folder)
    dtype = np.uint16 if special.vocab_size <= 2**16 else np.uint32
    encode_prompts, tokenizer = prompt_encoder(folder, frame), load_tokenizer(folder)
    lengths: list[int] = []
    contexts: list[int] = []
    with (Path(out) / f"tokens-{number:05d}.bin").open("wb") as file:
        for asked, responses in part_instructions(Path(part)):
            prompts = encode_prompts(asked)
            answers = tokenizer.encode_batch_fast(responses, add_special_tokens=False)
            for prompt, answer in zip(prompts, answers, strict=True):
                ids = [*prompt, *answer.ids, special.eos]
                file.write(np.array(ids, dtype).tobytes())
                lengths.append(len(ids))
                contexts.append(len(prompt))
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    np.save(Path(out) / f"offsets-{number:05d}.npy", offsets)
    np.save(Path(out) / f"contexts-{number:05d}.npy", np.array(contexts, np.int32))
    return sum(lengths)


def part_instructions(part: Path) -> Iterator[tuple[list[Asked], list[str]]]:
    """Prompts with their contexts, and responses, of a parquet part, a row group at a time."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(part) as file:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, columns=["prompt", "context", "response"])
            prompts, contexts = (table[name].to_pylist() for name in ("prompt", "context"))
            yield list(zip(prompts, contexts, strict=True)), table["response"].to_pylist()


def write_frame(frame: Frame, folder: Path) -> None:
    """Write `prompt.json`: what `rootstock generate` puts around a prompt."""
    (folder / PROMPT_FILE).write_text(
        json.dumps(asdict(frame), ensure_ascii=False, indent=1), encoding="utf-8"
    )


def read_frame(folder: Path) -> Frame | None:
    """The frame of a model that was tuned on instructions; None of any other.

    Raises:
        UserError: the file is not one of ours.
    """
    file = folder / PROMPT_FILE
    if not file.is_file():
        return None
    told = read_config(file)
    names = {"template", "before", "after"}
    if told.keys() != names or not all(isinstance(text, str) for text in told.values()):
        raise UserError(f"{PROMPT_FILE} is not a frame", str(file), "export the run again")
    return Frame(**told)


def frame_work(tokenizer_folder: Path, out: Path, frame: Frame) -> Callable[[tuple[str, int]], int]:
    """`tokenize_instructions` for worker processes."""
    return functools.partial(
        tokenize_instructions, tokenizer_folder=str(tokenizer_folder), out=str(out), frame=frame
    )
