"""Packed documents do not see each other, padding does nothing, and every label token counts once."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from tasks.data.plan.mix import PIECE, count_labels
from tasks.data.plan.plan import load_plan
from tasks.data.tokens.token_files import TokenPart
from tasks.training.batches.packed import IGNORED, PackedSequences, SeparateDocuments, collate, collate_apart
from tasks.training.models.load import load_model
from tests.training.prepared import prepare_inputs, spec_of

LENGTH = 48
PAD = 5


@pytest.fixture(scope="module")
def model(base):
    model = load_model(base).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4 if parameter.dim() > 1 else 1)  # sharp enough that context matters
    model.config.use_cache = False
    return model


def documents(seed: int, lengths: list[int]) -> TokenPart:
    rng = np.random.default_rng(seed)
    tokens = rng.integers(10, 1000, sum(lengths)).astype(np.uint16)
    return TokenPart(tokens, np.concatenate([[0], np.cumsum(lengths)]))


def pack(part: TokenPart, packs: list[list[int]], length: int = LENGTH, pad: int = PAD) -> PackedSequences:
    """Sequences that hold these documents, whole."""
    rows = [
        (0, 0, part.offsets[d], part.offsets[d + 1] - part.offsets[d], part.context(d))
        for members in packs
        for d in members
    ]
    return PackedSequences(np.array(rows, PIECE), np.cumsum([0, *map(len, packs)]), [[part]], length, pad)


def logits_of(model, dataset: PackedSequences) -> torch.Tensor:
    batch = collate([dataset[k] for k in range(len(dataset))])
    with torch.inference_mode():
        return model(**batch, use_cache=False).logits  # (B, T, V)


def alone(model, part: TokenPart, number: int) -> torch.Tensor:
    """Logits of one document by itself, with neither packing nor padding: (n, V)."""
    ids = torch.from_numpy(part.document(number).astype(np.int64))[None]
    with torch.inference_mode():
        return model(input_ids=ids, use_cache=False).logits[0]


LENGTHS = [20, 17, 9, 30, 2, 48, 5]
PACKS = [[0, 1, 2], [3, 4, 6], [5]]


def test_packed_logits_are_those_of_each_document_alone(model):
    part = documents(1, LENGTHS)
    logits = logits_of(model, pack(part, PACKS))
    for row, members in enumerate(PACKS):
        at = 0
        for number in members:
            expected = alone(model, part, number)
            torch.testing.assert_close(logits[row, at : at + len(expected)], expected, atol=1e-5, rtol=1e-5)
            at += len(expected)


def test_another_document_beside_changes_no_logit(model):
    part, other = documents(1, LENGTHS), documents(1, LENGTHS)
    other.tokens[:20] = documents(2, LENGTHS).tokens[:20]  # document 0, first of sequence 0
    before, after = logits_of(model, pack(part, PACKS)), logits_of(model, pack(other, PACKS))
    assert (before[0, :20] - after[0, :20]).abs().max() > 0.1, "the model does not look at its context"
    assert (before[0, 20:46] - after[0, 20:46]).abs().max() < 1e-6
    assert torch.equal(before[1:], after[1:])


def test_the_model_would_mix_documents_if_positions_ran_on(model):
    """The check above can fail: without positions that start again, the second document sees the first."""
    part, other = documents(1, LENGTHS), documents(1, LENGTHS)
    other.tokens[:20] = documents(2, LENGTHS).tokens[:20]
    logits = []
    for tokens in (part, other):
        batch = collate([pack(tokens, PACKS)[0]])
        batch["position_ids"] = torch.arange(LENGTH)[None]
        with torch.inference_mode():
            logits.append(model(**batch, use_cache=False).logits[0, 20:46])
    assert (logits[0] - logits[1]).abs().max() > 0.01


def test_packed_loss_is_the_summed_loss_of_the_documents(model):
    part = documents(3, LENGTHS)
    batch = collate([pack(part, PACKS)[k] for k in range(len(PACKS))])
    labels = int((batch["labels"][:, 1:] != IGNORED).sum())
    with torch.inference_mode():
        packed = float(model(**batch, use_cache=False).loss) * labels
    expected = 0.0
    for number, length in enumerate(LENGTHS):
        ids = torch.from_numpy(part.document(number).astype(np.int64))
        expected += float(cross_entropy(alone(model, part, number)[:-1], ids[1:], reduction="sum"))
        assert length == len(ids)
    assert labels == sum(LENGTHS) - len(LENGTHS)
    assert packed == pytest.approx(expected, rel=1e-5)


def test_padding_neither_attends_nor_counts(model):
    part = documents(4, [20, 9])
    first, second = (collate([pack(part, [[0, 1]], pad=pad)[0]]) for pad in (PAD, 999))
    exact = collate([pack(part, [[0, 1]], length=29)[0]])
    with torch.inference_mode():
        outputs = [model(**batch, use_cache=False) for batch in (first, second, exact)]
    for output in outputs[1:]:
        torch.testing.assert_close(output.logits[0, :29], outputs[0].logits[0, :29], atol=1e-5, rtol=1e-5)
        assert float(output.loss) == pytest.approx(float(outputs[0].loss), rel=1e-6)
    assert (first["labels"][0, 29:] == IGNORED).all()
    assert (first["input_ids"][0, 29:] == PAD).all()


def test_the_first_id_of_a_document_is_context_only():
    part = documents(5, LENGTHS)
    row = pack(part, PACKS)[0]
    starts = [0, 20, 37]
    assert (row["labels"][starts] == IGNORED).all()
    others = [k for k in range(46) if k not in starts]
    assert (row["labels"][others] == row["input_ids"][others]).all()
    assert row["position_ids"].tolist() == [*range(20), *range(17), *range(9), 0, 1]
    assert {name: value.dtype for name, value in row.items()} == dict.fromkeys(row, np.dtype(np.int64))


def test_the_batches_of_a_real_plan_hold_each_label_of_the_plan_once(root, base):
    inputs = prepare_inputs(root, spec_of(root, base, training={"epochs": 1}))
    pieces, sequences = load_plan(inputs.plan)
    dataset = PackedSequences(pieces, sequences, inputs.sources, 32, inputs.special.pad)
    labels = np.concatenate([dataset[k]["labels"] for k in range(len(dataset))])
    assert (labels != IGNORED).sum() == count_labels(pieces)
    expected = [
        inputs.sources[source][part].tokens[start + 1 : start + length]
        for source, part, start, length, _ in pieces.tolist()
    ]
    assert (labels[labels != IGNORED] == np.concatenate(expected)).all()


def test_apart_every_piece_is_a_row_with_the_same_labels_and_the_same_loss(model):
    part = documents(4, LENGTHS)
    packed = pack(part, PACKS)
    apart = SeparateDocuments(packed.pieces, packed.sequences, packed.sources, LENGTH, PAD)
    batches = [collate([packed[k] for k in range(3)]), collate_apart([apart[k] for k in range(3)])]
    assert batches[1]["input_ids"].shape == (len(LENGTHS), max(LENGTHS))
    assert batches[1]["attention_mask"].sum(dim=1).tolist() == [
        LENGTHS[d] for members in PACKS for d in members
    ]
    labels = [sorted(batch["labels"][batch["labels"] != IGNORED].tolist()) for batch in batches]
    assert labels[0] == labels[1]
    with torch.inference_mode():
        losses = [float(model(**batch, use_cache=False).loss) for batch in batches]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
