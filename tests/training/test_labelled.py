"""Documents with labels: whole rows, cut off where too long, padded so that nothing changes."""

import numpy as np
import pytest
import torch

from schemas.results.artifacts import TokenLedger
from tasks.data.labels.labels import IGNORED
from tasks.data.plan.plan import load_plan
from tasks.data.split.divide import Fate, load_fates
from tasks.training.batches.by_length import split_padded
from tasks.training.batches.labelled import LabelledDocuments, collate_labelled, pad_documents
from tasks.training.loop.head_losses import head_loss
from tasks.training.models.heads import Head
from tasks.training.models.load import load_with_head
from tests.tiny_encoder import make_encoder
from tests.toy_heads import toy_texts
from tests.training.heads import head_spec, prepare_head

KINDS = ("text_classification", "token_classification")


@pytest.fixture(scope="session")
def encoder(tmp_path_factory):
    return make_encoder(tmp_path_factory.mktemp("encoder") / "model", toy_texts())


def open_documents(root, spec):
    prepared, tokenized, inputs = prepare_head(root, spec)
    pieces, sequences = load_plan(inputs.plan)
    assert inputs.head is not None
    dataset = LabelledDocuments(pieces, sequences, inputs.sources, inputs.head.labels, inputs.special)
    return prepared, tokenized, inputs, dataset


def documents_of(dataset):
    return [document for k in range(len(dataset)) for document in dataset[k]["documents"]]


@pytest.mark.parametrize("kind", KINDS)
def test_one_pass_holds_every_training_row_once_and_whole_with_its_label(tmp_path, encoder, kind) -> None:
    training = {"epochs": 1, "sequence_length": 96, "batch_tokens": 96}
    spec = head_spec(tmp_path, kind, encoder, training=training)
    prepared, tokenized, inputs, dataset = open_documents(tmp_path / "state", spec)
    (tokens,), (numbers,) = inputs.sources[0], inputs.head.labels[0]
    (fates,) = load_fates(prepared.divided, prepared.sources[0])
    expected = []
    for row in np.flatnonzero(fates == Fate.ACCEPTED).tolist():
        ids = tokens.document(row).tolist()
        label = (
            numbers[row] if tokens.words is None else numbers[tokens.offsets[row] : tokens.offsets[row + 1]]
        )
        expected.append((ids, np.atleast_1d(label).tolist()))
    found = [(ids.tolist(), np.atleast_1d(label).tolist()) for ids, label in documents_of(dataset)]
    assert sorted(found) == sorted(expected)
    assert tokenized.tokens.truncated == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_longer_than_a_sequence_is_cut_off_counted_and_ends_with_its_last_token(
    tmp_path, encoder, kind
) -> None:
    training = {"epochs": 1, "sequence_length": 8, "batch_tokens": 8}
    spec = head_spec(tmp_path, kind, encoder, training=training)
    prepared, tokenized, inputs, dataset = open_documents(tmp_path / "state", spec)
    (tokens,) = inputs.sources[0]
    (fates,) = load_fates(prepared.divided, prepared.sources[0])
    lengths = np.diff(tokens.offsets)[fates == Fate.ACCEPTED]
    found = documents_of(dataset)
    assert sorted(len(ids) for ids, _ in found) == sorted(np.minimum(lengths, 8).tolist())
    assert all(ids[0] == inputs.special.bos and ids[-1] == inputs.special.eos for ids, _ in found)
    ledger: TokenLedger = tokenized.tokens
    assert ledger.truncated == (lengths - np.minimum(lengths, 8)).sum() > 0
    assert ledger.domain == ledger.domain_trained == (np.minimum(lengths, 8) - 1).sum()
    if kind == "token_classification":
        assert all(label[-1] == IGNORED and len(label) == len(ids) for ids, label in found)


@pytest.mark.parametrize("length", [{"steps": 7}, {"tokens": 999}, {"epochs": 1.4}])
def test_no_row_is_ever_split_and_steps_are_met_exactly(tmp_path, encoder, length) -> None:
    batch = 64 if "steps" in length else 16
    training = {"sequence_length": 16, "batch_tokens": batch, "epochs": None, **length}
    spec = head_spec(tmp_path, KINDS[0], encoder, training=training)
    _, tokenized, inputs, dataset = open_documents(tmp_path / "state", spec)
    (tokens,) = inputs.sources[0]
    starts = set(tokens.offsets[:-1].tolist())
    pieces, _ = load_plan(inputs.plan)
    assert all(start in starts for start in pieces["start"].tolist())
    whole = {s: min(16, int(e - s)) for s, e in zip(tokens.offsets[:-1], tokens.offsets[1:], strict=True)}
    assert all(
        whole[start] == size
        for start, size in zip(pieces["start"].tolist(), pieces["length"].tolist(), strict=True)
    )
    if "steps" in length:
        assert tokenized.mixture.steps == 7
        assert len(dataset) == 7 * 4
    if "tokens" in length:
        assert abs(tokenized.mixture.domain_tokens - 999) < 16


def logits_of(model, batch) -> torch.Tensor:
    with torch.inference_mode():
        return model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", ["encoder", "base"])
def test_padding_and_neighbours_change_no_logit(tmp_path, request, kind, family) -> None:
    folder = request.getfixturevalue(family)
    spec = head_spec(tmp_path, kind, folder, training={"epochs": 1})
    _, _, inputs, dataset = open_documents(tmp_path / "state", spec)
    model = load_with_head(folder, inputs.head.head, None, 5).model.eval()
    documents = documents_of(dataset)[:6]
    together = collate_labelled([{"documents": documents, "pad": inputs.special.pad}])
    logits = logits_of(model, together)
    assert len({len(ids) for ids, _ in documents}) > 1, "padding is needed"
    for row, document in enumerate(documents):
        alone = logits_of(model, pad_documents([document], inputs.special.pad))[0]
        found = logits[row] if kind == KINDS[0] else logits[row, : len(document[0])]
        torch.testing.assert_close(found, alone, atol=1e-5, rtol=1e-5)
    other = logits_of(model, pad_documents(documents[::-1], inputs.special.pad)).flip(0)
    torch.testing.assert_close(other, logits, atol=1e-5, rtol=1e-5)


def test_the_loss_of_a_step_does_not_depend_on_how_it_is_cut_into_micro_batches() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(10, 3, generator=generator), torch.randint(0, 3, (10,), generator=generator)
    labels[3] = IGNORED

    class Outputs:
        def __init__(self, part):
            self.logits = part

    whole = torch.nn.functional.cross_entropy(logits, labels)
    parts = [head_loss(Outputs(logits[a:b]), labels[a:b], 9) for a, b in ((0, 1), (1, 7), (7, 10))]
    assert float(sum(parts)) == pytest.approx(float(whole), rel=1e-6)
    of_words = head_loss(Outputs(logits.view(2, 5, 3)), labels.view(2, 5), 9)
    assert float(of_words) == pytest.approx(float(whole), rel=1e-6)


def test_a_head_of_a_causal_model_answers_at_the_last_token(tmp_path, base) -> None:
    """Everything before is seen there: changing the first token changes the answer, padding behind does not."""
    model = load_with_head(base, Head(KINDS[0], ("a", "b"), 1), None, 5).model.eval()
    ids = np.array([0, 20, 30, 40, 1])
    changed = np.array([0, 21, 30, 40, 1])
    first, second = (logits_of(model, pad_documents([(one, 0)], 1)) for one in (ids, changed))
    assert (first - second).abs().max() > 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_a_long_document_does_not_blow_up_the_rows_beside_it(kind) -> None:
    """Groups of like length hold every row once, and none is larger than the micro-batch unless it is one row."""
    rng = np.random.default_rng(0)
    lengths = [90, *rng.integers(3, 12, 60).tolist(), 40]
    documents = [
        (rng.integers(5, 99, n), int(n) if kind == KINDS[0] else rng.integers(0, 3, n).astype(np.int32))
        for n in lengths
    ]
    batch = pad_documents(documents, 0)
    parts = list(split_padded(batch, 64))
    assert sum(part["input_ids"].numel() for part in parts) < batch["input_ids"].numel() / 5
    assert all(part["input_ids"].numel() <= 64 or len(part["input_ids"]) == 1 for part in parts)
    found = [
        (ids[mask.bool()].tolist(), label.tolist() if label.dim() == 0 else label[mask.bool()].tolist())
        for part in parts
        for ids, mask, label in zip(part["input_ids"], part["attention_mask"], part["labels"], strict=True)
    ]
    expected = [
        (ids.tolist(), label if isinstance(label, int) else label.tolist()) for ids, label in documents
    ]
    assert sorted(found) == sorted(expected)


@pytest.mark.parametrize("kind", KINDS)
def test_forward_passes_by_length_give_the_gradient_of_the_whole_batch(tmp_path, encoder, kind) -> None:
    spec = head_spec(tmp_path, kind, encoder, training={"epochs": 1})
    _, _, inputs, dataset = open_documents(tmp_path / "state", spec)
    model = load_with_head(encoder, inputs.head.head, None, 5).model.eval()
    batch = collate_labelled([dataset[k] for k in range(4)])
    items = int((batch["labels"] != IGNORED).sum())

    def gradient(parts) -> torch.Tensor:
        model.zero_grad()
        for part in parts:
            outputs = model(input_ids=part["input_ids"], attention_mask=part["attention_mask"])
            head_loss(outputs, part["labels"], items).backward()
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    parts = list(split_padded(batch, 50))
    assert len(parts) > 2
    torch.testing.assert_close(gradient(parts), gradient([batch]), atol=1e-6, rtol=1e-4)
