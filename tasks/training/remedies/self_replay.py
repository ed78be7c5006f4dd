"""Self-synthesised rehearsal (Huang et al., 2024, https://arxiv.org/abs/2403.01244): the base writes its own replay text.

For those who have no general corpus. The text is written before any training, filtered, kept by the base's hash, and
then a replay source like any file: read, checked by its contract, deduplicated, held against the suites and counted.

Deviation: texts begin at BOS, at a prompt, or at a random token of the vocabulary, and are filtered by the base's own
loss; the paper refines instruction data in context.
"""

import json
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from schemas.errors import UserError
from schemas.spec.own_text import OwnText
from schemas.spec.remedies import SelfReplay
from tasks.data.model.loading import encoding
from tasks.data.tokens.tokenizer import load_tokenizer, special_ids
from tasks.storage.code import code_version
from tasks.storage.steps import Step, StepPlan, run_step
from tasks.training.remedies.base import Remedy, RemedyContext
from tasks.training.remedies.parts.measure import mean_loss
from tasks.training.threads import on_threads

if TYPE_CHECKING:
    from tasks.training.methods.base import Tuned

FILE = "text.jsonl"
TOGETHER = 32  # texts that are written side by side
PHRASE = 4  # ids of a phrase whose repetition is counted


def own_text(root: Path, base: Path, settings: SelfReplay, seed: int) -> OwnText:
    """What the base writes, as a replay source.

    Raises:
        UserError: nothing of it passes the filters.
    """
    step = write_text(root, base, settings, seed)
    file = str(step.folder / FILE)
    counted = {name: step.facts[name] for name in ("written", "kept", "dropped")}
    return OwnText(path=file, files=(file,), contract=settings.contract, weight=settings.weight, **counted)


def write_text(root: Path, base: Path, settings: SelfReplay, seed: int) -> Step:
    """Let the base write, keep what passes, as rows of JSON Lines; done once per base, settings and seed."""
    from tasks.data.model.folder import model_sha256
    from tasks.training.models.load import load_base

    plan = StepPlan(
        root=root,
        name="self-replay",
        inputs={"base": model_sha256(base)},
        settings=[settings.model_dump(mode="json", exclude={"weight", "contract"}), seed],
        code=code_version(__name__),
    )

    def work(folder: Path) -> dict[str, Any]:
        tokenizer, model = load_tokenizer(base), load_base(base)
        written = list(generate_ids(model, tokenizer, base, settings, seed))
        kept, dropped = choose(written, [mean_loss(model, [ids]) for ids in written], settings)
        texts = [
            tokenizer.decode(written[index].tolist(), skip_special_tokens=True).strip() for index in kept
        ]
        whole = [text for text in dict.fromkeys(texts) if is_text(text)]
        if not whole:
            raise UserError(
                f"nothing that the base wrote passes the filters ({len(written)} texts)",
                "remedies: self_replay",
                "lower min_tokens and min_distinct, raise keep_ratio, or name a replay source",
            )
        with (folder / FILE).open("w", encoding="utf-8") as file:
            file.writelines(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in whole)
        dropped |= {"equal_or_not_text": len(texts) - len(whole)}
        return {"written": len(written), "kept": len(whole), "dropped": dropped}

    return run_step(plan, on_threads(plan, work))


def generate_ids(
    model: Any, tokenizer: Any, base: Path, settings: SelfReplay, seed: int
) -> Iterator[npt.NDArray[np.int64]]:
    """Texts sampled by the base until there are `settings.tokens` ids; each without BOS and up to its EOS, (length,)."""
    import torch
    from transformers import GenerationConfig

    from tasks.training.device import find_device

    special, device = special_ids(base), find_device()
    model.to(device.name).eval()
    config = GenerationConfig(
        do_sample=True,
        temperature=settings.temperature,
        top_p=settings.top_p,
        top_k=0,
        max_new_tokens=settings.max_new_tokens,
        eos_token_id=special.eos,
        pad_token_id=special.eos,
    )
    head = [] if special.bos is None else [special.bos]
    with encoding(base):
        prompts = [head + tokenizer.encode(text, add_special_tokens=False).ids for text in settings.prompts]
    _require_room(model, max([len(head) or 1, *map(len, prompts)]) + settings.max_new_tokens)
    tokens = batch = 0
    while tokens < settings.tokens:
        random = np.random.default_rng([seed, batch])
        start = prompts[batch % len(prompts)] if prompts else head
        rows = [start or [int(random.integers(special.vocab_size))] for _ in range(TOGETHER)]
        with torch.random.fork_rng(), torch.inference_mode():
            torch.manual_seed(int(random.integers(2**62)))
            given = torch.tensor(rows, device=device.name)
            ids = model.generate(
                input_ids=given, attention_mask=torch.ones_like(given), generation_config=config
            )
        for row in ids.cpu().numpy()[:, len(head) :]:
            ends = np.flatnonzero(row == special.eos)
            text = row[: ends[0] + 1] if len(ends) else row
            tokens += len(text)
            if len(text) > 1:
                yield text
        tokens, batch = tokens + 1, batch + 1  # a base that only ends its texts comes to an end too


def _require_room(model: Any, length: int) -> None:
    context = getattr(model.config, "max_position_embeddings", None)
    if context is not None and length > context:
        raise UserError(
            f"texts of up to {length} tokens are to be written, but the base reads {context}",
            "remedies: self_replay",
            f"lower max_new_tokens by {length - context}",
        )


def choose(
    written: Sequence[npt.NDArray[np.int64]], losses: Sequence[float], settings: SelfReplay
) -> tuple[list[int], dict[str, int]]:
    """Indices of the texts that are kept, in their order, and how many were dropped by which filter.

    Dropped are texts that are too short, that repeat their phrases, and of the rest those that the base itself finds
    least likely, in nats per token.
    """
    long_enough = [i for i, ids in enumerate(written) if len(ids) >= settings.min_tokens]
    varied = [i for i in long_enough if distinct_ratio(written[i]) >= settings.min_distinct]
    count = int(np.ceil(settings.keep_ratio * len(varied)))
    likely = sorted(sorted(varied, key=lambda i: losses[i])[:count])
    dropped = {
        "short": len(written) - len(long_enough),
        "repeating": len(long_enough) - len(varied),
        "unlikely": len(varied) - len(likely),
    }
    return likely, dropped


def is_text(text: str) -> bool:
    """Whether it is whole characters that people write: no half of one, no control characters."""
    return bool(text) and not any(
        letter == "\ufffd" or (unicodedata.category(letter) == "Cc" and letter not in "\t\n\r\f")
        for letter in text
    )


def distinct_ratio(ids: npt.NDArray[np.int64]) -> float:
    """Share of the phrases of a text that are different."""
    phrases = [tuple(ids[start : start + PHRASE].tolist()) for start in range(len(ids) - PHRASE + 1)]
    return len(set(phrases)) / len(phrases) if phrases else 1.0


class SelfReplayAtWork(Remedy):
    """Nothing is left to do in training: its text is in the mixture."""

    def __init__(self, counts: dict[str, Any]):
        self.counts = counts

    def facts(self) -> dict[str, Any]:
        """How many texts were written, kept and dropped."""
        return self.counts


def attach(tuned: "Tuned", settings: SelfReplay, context: RemedyContext, prepared: Step | None) -> Remedy:
    """Report what was written."""
    text = context.spec.own_text
    assert text is not None, "the effective specification has it"
    return SelfReplayAtWork(text.model_dump(include={"written", "kept", "dropped"}))
