"""Answers to the prompts of a suite: generated greedily, many at a time, and compared by their final answers."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from schemas.errors import UserError
from schemas.results.scores import AnswerScore, AnswerSuite, Who
from tasks.data.model.folder import METHOD_FILE, is_tuned
from tasks.data.tokens.tokenizer import load_tokenizer, special_ids
from tasks.evaluation.suites.final_answer import final_answer
from tasks.evaluation.suites.items import BATCH_TOKENS, Item, OnProgress, Suite
from tasks.storage.reading import parse_json, read_stored
from tasks.storage.steps import Step
from tasks.training.models.tuned_files import read_method

PROMPTS_AT_ONCE = 64


def answer_suite(
    model: Any,
    folder: Path,
    items: Sequence[Item],
    max_new_tokens: int,
    on_progress: OnProgress | None = None,
) -> list[str]:
    """The final answer of the response that a model gives to each prompt, in their order.

    on_progress(done, total) counts label tokens of the right responses, as where losses are scored.

    Raises:
        UserError: a prompt and its response would exceed the model's context.
    """
    prompts = [item.input_ids[: item.context].tolist() for item in items]
    _require_room(model, items, max_new_tokens)
    tokenizer, answers, done = load_tokenizer(folder), [""] * len(items), 0
    for batch in batches([len(ids) for ids in prompts], max_new_tokens, may_pad(folder)):
        found = respond(model, folder, [prompts[index] for index in batch], max_new_tokens)
        for index, ids in zip(batch, found, strict=True):
            answers[index] = final_answer(tokenizer.decode(ids, skip_special_tokens=True))
            done += items[index].labels
        if on_progress is not None:
            on_progress(done, sum(item.labels for item in items))
    return answers


def may_pad(folder: Path) -> bool:
    """Whether padding in front of a prompt leaves its answer as it is.

    It does where positions are counted from the mask. Methods that ignore position_ids (prompts and prefixes of PEFT,
    and ours that count places in the text) would stand further from the text: their prompts share a batch only with
    others of the same length.
    """
    if not is_tuned(folder):
        return True
    return (folder / METHOD_FILE).is_file() and read_method(folder).method.packs


def batches(lengths: Sequence[int], max_new_tokens: int, pads: bool) -> Iterator[list[int]]:
    """Indices of prompts that are answered together, longest first; of one length if they must not be padded."""
    ordered = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    start = 0
    while start < len(ordered):
        longest = lengths[ordered[start]]
        rows = max(1, min(PROMPTS_AT_ONCE, 4 * BATCH_TOKENS // (longest + max_new_tokens)))
        batch = ordered[start : start + rows]
        if not pads:
            batch = [index for index in batch if lengths[index] == longest]
        yield batch
        start += len(batch)


def respond(
    model: Any, folder: Path, prompts: Sequence[Sequence[int]], max_new_tokens: int
) -> list[list[int]]:
    """Ids of each response up to EOS, taking the likeliest token each time. Shorter prompts are padded on the left."""
    import torch

    special = special_ids(folder)
    ends = _ends(model, special.eos)
    width = max(len(ids) for ids in prompts)
    input_ids = torch.full((len(prompts), width), special.pad)
    mask = torch.zeros_like(input_ids)
    for row, ids in enumerate(prompts):
        input_ids[row, width - len(ids) :] = torch.tensor(ids)
        mask[row, width - len(ids) :] = 1
    device = next(model.parameters()).device
    was_training = model.training
    model.train(False)
    try:
        with torch.inference_mode():
            made = cast(Any, model).generate(
                input_ids=input_ids.to(device),
                attention_mask=mask.to(device),
                max_new_tokens=max_new_tokens,
                eos_token_id=ends,
                pad_token_id=special.pad,
                do_sample=False,
                temperature=None,
                top_p=None,
                top_k=None,
                repetition_penalty=1.0,
            )
    finally:
        model.train(was_training)
    return [_until(row, ends) for row in made[:, width:].tolist()]


def _ends(model: Any, eos: int) -> list[int]:
    """The ids that end a response: EOS, and what the base's own generation settings name."""
    configured = model.generation_config.eos_token_id
    more = configured if isinstance(configured, list) else [] if configured is None else [configured]
    return sorted({eos, *more})


def _until(ids: list[int], ends: Sequence[int]) -> list[int]:
    """Ids before the first end."""
    return ids[: next((at for at, token in enumerate(ids) if token in ends), len(ids))]


def _require_room(model: Any, items: Sequence[Item], max_new_tokens: int) -> None:
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    configs = (getattr(model, "peft_config", None) or {}).values()
    virtual = sum(getattr(config, "num_virtual_tokens", None) or 0 for config in configs)
    longest = max(items, key=lambda item: item.context)
    if limit is not None and virtual + longest.context + max_new_tokens > limit:
        room = limit - virtual - longest.context
        raise UserError(
            f"a prompt has {longest.context} tokens and {max_new_tokens} more are asked for, but the model reads {limit}"
            " in all" + (f", {virtual} of them virtual" if virtual else ""),
            longest.id,
            f"set objective.max_new_tokens to {room} or less" if room > 0 else "remove this row",
        )


def assemble_answers(suite: Suite, number: int, steps: Mapping[Who, Step]) -> AnswerSuite:
    """Put the answers of all models beside the right ones."""
    answered = {
        who: parse_json(read_stored(step.folder / f"answers-{number}.json")) for who, step in steps.items()
    }
    items = tuple(
        AnswerScore(
            id=item.id,
            group=item.group,
            right=item.gold[0],
            answered={who: answers[index] for who, answers in answered.items()},
        )
        for index, item in enumerate(suite.items)
    )
    most = Counter(item.right for item in items).most_common(1)[0][1]
    return AnswerSuite(name=suite.name, kind=suite.kind, floor=most / len(items), items=items)
