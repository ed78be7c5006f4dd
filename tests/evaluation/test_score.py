"""Scoring: every label token once, the same number however it is batched."""

import numpy as np
import pytest

from schemas.errors import TrainingFailed
from tasks.evaluation.scoring.loss import cut_windows, score_documents


def one_by_one(model, documents, max_length: int) -> np.ndarray:
    """The definition: each window alone, its log-probabilities picked one at a time."""
    import torch

    nats = []
    for ids in documents:
        total = 0.0
        start = 0
        while start < len(ids) - 1:
            window = torch.tensor(ids[start : start + max_length])
            with torch.no_grad():
                log_p = torch.log_softmax(model(window[None]).logits[0].float(), dim=-1)
            total -= sum(float(log_p[t, window[t + 1]]) for t in range(len(window) - 1))
            start += max_length - 1
        nats.append(total)
    return np.array(nats)


@pytest.mark.parametrize("max_length", [2, 7, 32, 64])
def test_scores_equal_a_one_by_one_reference(tiny_model, documents, max_length: int):
    scores = score_documents(tiny_model, documents, max_length, 256, "cpu")
    np.testing.assert_allclose(scores, one_by_one(tiny_model, documents, max_length), rtol=1e-5)


def test_the_batch_size_does_not_change_a_score(tiny_model, documents):
    alone = score_documents(tiny_model, documents, 64, 1, "cpu")
    for batch_tokens in (100, 256, 100_000):
        together = score_documents(tiny_model, documents, 64, batch_tokens, "cpu")
        np.testing.assert_allclose(together, alone, rtol=1e-5)


def test_scores_are_bit_equal_when_repeated(tiny_model, documents):
    first = score_documents(tiny_model, documents, 64, 256, "cpu")
    assert first.tobytes() == score_documents(tiny_model, documents, 64, 256, "cpu").tobytes()


def test_the_order_of_documents_is_kept(tiny_model, documents):
    scores = score_documents(tiny_model, documents, 64, 256, "cpu")
    backwards = score_documents(tiny_model, documents[::-1], 64, 256, "cpu")
    np.testing.assert_allclose(backwards[::-1], scores, rtol=1e-5)


@pytest.mark.parametrize("max_length", [2, 3, 10, 11, 50])
@pytest.mark.parametrize("length", [0, 1, 2, 10, 11, 19, 20, 21])
def test_every_label_lies_in_exactly_one_window(length: int, max_length: int):
    labels = [
        position
        for window in cut_windows([length], max_length)
        for position in range(window.start + 1, window.start + window.length)
    ]
    assert labels == list(range(1, length))
    assert all(2 <= window.length <= max_length for window in cut_windows([length], max_length))


def test_a_document_without_labels_scores_zero(tiny_model):
    scores = score_documents(tiny_model, [np.array([1]), np.array([], dtype=np.int64)], 64, 256, "cpu")
    assert scores.tolist() == [0.0, 0.0]


def test_no_batch_is_larger_than_asked(tiny_model, documents):
    seen = []
    hook = tiny_model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    try:
        score_documents(tiny_model, documents, 64, 256, "cpu")
    finally:
        hook.remove()
    assert len(seen) > 1
    assert max(seen) <= 256


def test_progress_ends_at_the_number_of_label_tokens(tiny_model, documents):
    calls: list[tuple[int, int]] = []
    score_documents(
        tiny_model, documents, 64, 256, "cpu", on_progress=lambda done, total: calls.append((done, total))
    )
    labels = sum(len(ids) - 1 for ids in documents)
    assert calls[-1] == (labels, labels)
    assert [done for done, _ in calls] == sorted({done for done, _ in calls})


def test_scoring_ignores_dropout_and_restores_the_models_mode(tiny_model, documents):
    dropout = tiny_model.model.layers[0].self_attn
    before = dropout.attention_dropout
    expected = score_documents(tiny_model, documents, 64, 256, "cpu")
    try:
        dropout.attention_dropout = 0.9
        tiny_model.train()
        scores = score_documents(tiny_model, documents, 64, 256, "cpu")
        assert tiny_model.training
    finally:
        dropout.attention_dropout = before
        tiny_model.eval()
    np.testing.assert_array_equal(scores, expected)


def test_a_model_with_broken_weights_is_refused(tiny_model, documents):
    import copy

    import torch

    broken = copy.deepcopy(tiny_model)
    with torch.no_grad():
        broken.lm_head.weight[0, 0] = torch.nan
    with pytest.raises(TrainingFailed) as caught:
        score_documents(broken, documents, 64, 256, "cpu")
    assert "not a finite number on 20 of 20 documents" in caught.value.what
    assert caught.value.where == "scoring"
    assert "learning_rate" in caught.value.fix


def test_a_window_of_one_token_is_refused(tiny_model, documents):
    with pytest.raises(ValueError, match="at least 2"):
        score_documents(tiny_model, documents, 1, 256, "cpu")


def test_half_precision_scores_are_close(tiny_model, documents):
    import copy

    import torch

    half = copy.deepcopy(tiny_model).to(torch.bfloat16)
    scores = score_documents(half, documents, 64, 256, "cpu").sum()
    assert scores == pytest.approx(score_documents(tiny_model, documents, 64, 256, "cpu").sum(), rel=0.02)


def test_prompt_tuned_models_are_scored_on_the_text_alone(tiny_model, documents):
    """Virtual tokens return logits of their own; they must shift no label."""
    import copy

    import torch
    from peft import PromptTuningConfig, get_peft_model

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tuned = get_peft_model(
            copy.deepcopy(tiny_model), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
        )
    short = [ids for ids in documents if len(ids) <= 32]
    scores = score_documents(tuned, short, 32, 256, "cpu")
    assert len(short) > 5
    for ids, score in zip(short, scores, strict=True):
        window = torch.tensor(ids)[None]
        with torch.no_grad():
            log_p = torch.log_softmax(tuned(input_ids=window).logits[0, 4:-1], dim=-1)
        assert score == pytest.approx(-float(log_p.gather(1, window[0, 1:, None]).sum()), rel=1e-5)


@pytest.mark.gpu
def test_scores_on_a_gpu_equal_those_on_the_cpu(tiny_model, documents):
    import copy

    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    model = copy.deepcopy(tiny_model).to("cuda")
    scores = score_documents(model, documents, 64, 256, "cuda")
    np.testing.assert_allclose(scores, score_documents(tiny_model, documents, 64, 256, "cpu"), rtol=1e-4)
