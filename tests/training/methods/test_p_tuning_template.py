"""Virtual tokens stand where the template says, and whoever scores, trains or generates sees the text alone."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from schemas.errors import UserError
from schemas.spec.methods.adapters import PTuningTemplate
from tasks.evaluation.scoring.loss import score_documents
from tasks.training.methods import p_tuning_template
from tasks.training.methods.base import TrainingContext
from tasks.training.methods.parts.virtual_template import lay_out, slots_of, text_in
from tests.training.methods.architectures import VOCAB, make

IDS = torch.arange(3, 15)[None].remainder(VOCAB)
MIDDLE = "{v2}{text:3}{v1}{text:2}{v2}{text}"


def attach(template=MIDDLE, name="llama", encoder="mlp", head=(), length=0):
    torch.manual_seed(17)
    context = TrainingContext(Path(), 1, 17, lambda: iter(()), head, length)
    return p_tuning_template.attach(make(name), PTuningTemplate(template=template, encoder=encoder), context)


def logits(model, ids=IDS, **more) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=ids, **more).logits


def by_hand(tuned, ids=IDS) -> torch.Tensor:
    """The base on hand-made embeddings v v t t t v t t v v t ..., read just before each next text token."""
    v = tuned.modules()["virtual_tokens"].table().detach()
    t = tuned.model.get_input_embeddings()(ids)[0].detach()
    rows = torch.cat([v[:2], t[:3], v[2:3], t[3:5], v[3:5], t[5:]])
    with tuned.disabled(), torch.no_grad():
        whole = tuned.model(inputs_embeds=rows[None]).logits[0]
    read_at = [2, 3, 5, 6, 9, *range(10, 10 + len(ids[0]) - 5)]
    return whole[read_at]


def test_places_are_counted_as_the_template_says():
    groups = PTuningTemplate(template=MIDDLE).groups()
    assert groups == ((0, 2), (3, 1), (5, 2))
    source, virtual = lay_out(6, groups)
    assert virtual.tolist() == [0, 1, -1, -1, -1, 2, -1, -1, 3, 4, -1]
    assert source.tolist() == [0, 0, 0, 1, 2, 2, 3, 4, 4, 4, 5]
    assert lay_out(2, groups)[1].tolist() == [0, 1, -1, -1], "a short text never comes to the others"
    assert [text_in(slots_of(n, groups), groups) for n in range(1, 20)] == list(range(1, 20))
    assert PTuningTemplate(template="{v2}{v3}{text}").groups() == ((0, 5),)


@pytest.mark.parametrize("name", ["llama", "gpt2", "opt", "gemma3", "gpt_neox"])
def test_the_model_reads_text_and_virtual_tokens_and_answers_for_the_text(name):
    tuned = attach(name=name)
    computed = logits(tuned.model)
    assert computed.shape == (1, 12, VOCAB)
    assert torch.allclose(computed[0], by_hand(tuned), atol=1e-5)
    with tuned.disabled():
        assert torch.equal(logits(tuned.model), logits(make(name)))


def test_the_loss_is_that_of_the_text_s_own_tokens():
    tuned = attach()
    labels = IDS.clone()
    labels[0, 0] = -100
    loss = tuned.model(input_ids=IDS, labels=labels).loss
    expected = cross_entropy(by_hand(tuned)[:-1], IDS[0, 1:])
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)


def test_scoring_gives_the_text_s_own_losses():
    tuned = attach()
    documents = [IDS[0].numpy(), IDS[0, :4].numpy()]
    nats = score_documents(tuned.model, documents, 64, 256, "cpu")
    read = by_hand(tuned)[:-1].log_softmax(-1)
    losses = -read[torch.arange(11), IDS[0, 1:]].numpy()
    assert nats == pytest.approx(np.array([losses.sum(), losses[:3].sum()]), rel=1e-5)


@pytest.mark.parametrize("first", [1, 2, 3, 4, 5, 7])
def test_token_by_token_with_a_cache_it_is_the_same(first):
    tuned = attach()
    whole = logits(tuned.model)
    with torch.no_grad():
        step = tuned.model(input_ids=IDS[:, :first], use_cache=True)
        pieces, cache = [step.logits], step.past_key_values
        for t in range(first, IDS.shape[1]):
            mask = torch.ones(1, t + 1, dtype=torch.long)
            step = tuned.model(
                input_ids=IDS[:, t : t + 1],
                attention_mask=mask,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            pieces.append(step.logits)
    assert cache.get_seq_length() == IDS.shape[1] + 5
    assert torch.allclose(torch.cat(pieces, 1), whole, atol=1e-5)


def test_a_shorter_text_is_padded_on_the_right_without_effect():
    tuned = attach()
    rows = torch.cat([IDS, torch.cat([IDS[:, :4], torch.full((1, 8), 2)], 1)])
    mask = torch.tensor([[1] * 12, [1] * 4 + [0] * 8])
    both = logits(tuned.model, rows, attention_mask=mask)
    assert torch.allclose(both[:1], logits(tuned.model), atol=1e-5)
    assert torch.allclose(both[1:, :4], logits(tuned.model, IDS[:, :4]), atol=1e-5)
    with pytest.raises(ValueError, match="pad on the right"):
        logits(tuned.model, rows, attention_mask=mask.flip(1))


@pytest.mark.parametrize("encoder", ["mlp", "lstm"])
def test_every_virtual_token_learns_through_the_encoder(encoder):
    tuned = attach(encoder=encoder)
    table = tuned.modules()["virtual_tokens"].table()
    table.retain_grad()
    tuned.modules()["virtual_tokens"].table = lambda: table
    tuned.model(input_ids=IDS, labels=IDS).loss.backward()
    assert (table.grad.abs().amax(dim=1) > 0).all(), "the virtual tokens in the middle too"
    d = h = 16
    lstm = 2 * (4 * (d * h // 2 + h // 2 * h // 2) + 8 * h // 2) + 2 * (
        4 * (h * h // 2 + h // 2 * h // 2) + 8 * h // 2
    )
    expected = 5 * d + 2 * (d * d + d) + (lstm if encoder == "lstm" else 0)
    assert sum(p.numel() for p in tuned.model.parameters() if p.requires_grad) == expected


def test_what_is_deployed_are_the_virtual_tokens_alone():
    tuned = attach(encoder="lstm")
    before = logits(tuned.model)
    tuned.finish()
    # torch has another LSTM kernel where no gradient is asked for, and on some processors it rounds otherwise
    assert torch.allclose(logits(tuned.model), before, atol=1e-5)
    names = [name for name, p in tuned.model.named_parameters() if p.requires_grad]
    assert names == ["rootstock.default.virtual_tokens.embeddings"]


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{v4}{text}{v2}", "no token of a text sees what stands behind it"),
        ("{text}", "no virtual tokens"),
        ("{v4} {text}", "is no part of a template"),
        ("{v0}{text}", "is no part of a template"),
        ("{v4}", "end with {text}"),
        ("{text}{v1}{text}", "end with {text}, once"),
    ],
)
def test_a_template_that_cannot_be_trained_is_refused(template, reason):
    with pytest.raises(ValueError, match=reason):
        PTuningTemplate(template=template)


def test_task_heads_and_texts_too_long_are_refused():
    with pytest.raises(UserError, match="not for task heads"):
        attach(head=("score",))
    with pytest.raises(UserError, match="exceed the model's context of 64") as error:
        attach(length=60)
    assert error.value.where == "method.template"
    assert "59 or less" in error.value.fix
    tuned = attach(length=59)
    with pytest.raises(UserError, match="are 65 tokens, the model reads 64"):
        logits(tuned.model, torch.zeros(1, 60, dtype=torch.long))
