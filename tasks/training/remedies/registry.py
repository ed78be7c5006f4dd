"""The remedies there are. `rootstock remedies` and docs/forgetting.md are made from this table."""

from dataclasses import dataclass

from schemas.spec.remedies import (
    Distillation,
    DomainAdversarial,
    EasySamples,
    Ema,
    Ewc,
    LossWeighting,
    SelfReplay,
    StepScaling,
    WeightAveraging,
)
from tasks.training.remedies import (
    distillation,
    domain_adversarial,
    easy_samples,
    ema,
    ewc,
    loss_weighting,
    self_replay,
    step_scaling,
    weight_averaging,
)
from tasks.training.remedies.base import RemedyEntry

REMEDIES: dict[str, RemedyEntry] = {
    "ewc": RemedyEntry(
        settings=Ewc,
        prepare=ewc.prepare,
        attach=ewc.attach,
        reads=ewc.reads,
        paper="Kirkpatrick et al., 2017, https://arxiv.org/abs/1612.00796",
        does="holds each weight by how much general text depends on it (diagonal Fisher information)",
        needs="replay sources to measure on",
        costs="a backward pass over the general sample; two copies of the weights in memory",
        refuses="methods that neither move the base's weights nor add a product of two matrices; heads",
        experimental="",
    ),
    "distillation": RemedyEntry(
        settings=Distillation,
        prepare=distillation.prepare,
        attach=distillation.attach,
        paper="Li and Hoiem, 2016, https://arxiv.org/abs/1606.09282",
        does="learns the base's predictions along with the text, on replay or on everything",
        needs="replay in the mixture, or `on: all`",
        costs="a forward pass of the base over what is distilled; 8 x top_k bytes per position on disk",
        refuses="replay ratio 0 without `on: all`; heads, whose outputs the base does not have",
        experimental="",
    ),
    "weight_averaging": RemedyEntry(
        settings=WeightAveraging,
        attach=weight_averaging.attach,
        paper="Wortsman et al., 2022, https://arxiv.org/abs/2109.01903",
        does="goes back a part of the way to the base after training; how far is chosen on text kept from training",
        needs="replay sources (to choose by), or an alpha",
        costs="a copy of the weights that train; a few forward passes over the development set",
        refuses="methods whose update is not a straight line from the base; heads",
        experimental="",
    ),
    "ema": RemedyEntry(
        settings=Ema,
        attach=ema.attach,
        paper="Tarvainen and Valpola, 2017, https://arxiv.org/abs/1703.01780",
        does="deploys the moving average of the weights, which starts at the base",
        needs="nothing",
        costs="a copy of what trains, in memory and in checkpoints",
        refuses="adalora and diff_pruning, which change what trains on the way",
        experimental="",
    ),
    "loss_weighting": RemedyEntry(
        settings=LossWeighting,
        attach=loss_weighting.attach,
        paper="Caruana, 1997, https://doi.org/10.1023/A:1007379606734",
        does="multiplies the loss of domain tokens and of replay tokens by a factor each",
        needs="replay in the mixture",
        costs="the loss is computed once more from the logits",
        refuses="replay ratio 0; equal factors; heads",
        experimental="",
    ),
    "easy_samples": RemedyEntry(
        settings=EasySamples,
        prepare=easy_samples.prepare,
        attach=easy_samples.attach,
        paper="Sanyal et al., 2025, https://arxiv.org/abs/2502.02797",
        does="weighs each document by how easy the base finds it, so that hard ones move the weights less",
        needs="nothing",
        costs="a forward pass of the base over the training text; the loss is computed once more from the logits",
        refuses="heads, whose labels the base does not know",
        experimental="keeps no more than training less does",
    ),
    "domain_adversarial": RemedyEntry(
        settings=DomainAdversarial,
        attach=domain_adversarial.attach,
        paper="Ganin et al., 2016, https://arxiv.org/abs/1505.07818",
        does="learns features by which a discriminator cannot tell domain from replay rows",
        needs="text_classification, and replay in the mixture",
        costs="a small discriminator beside the model while it trains; it is not deployed",
        refuses="replay ratio 0; head_only; every other objective",
        experimental="not shown to keep more than replay alone does",
    ),
    "self_replay": RemedyEntry(
        settings=SelfReplay,
        attach=self_replay.attach,
        paper="Huang et al., 2024, https://arxiv.org/abs/2403.01244",
        does="lets the base write replay text before training; filtered, it is a replay source like any file",
        needs="a replay ratio above 0, or a remedy that measures on general text",
        costs="generating the text, once per base",
        refuses="a mixture and remedies that would not read it; heads, whose rows need labels",
        experimental="",
    ),
    "step_scaling": RemedyEntry(
        settings=StepScaling,
        prepare=step_scaling.prepare,
        attach=step_scaling.attach,
        paper="our own, after Sanyal et al., 2025, https://arxiv.org/abs/2502.02797",
        does="makes an optimizer step smaller the further its batch's loss lies above the base's on general text",
        needs="replay sources (to measure on), or a target",
        costs="a forward pass of the base over the general sample",
        refuses="objectives other than language_modeling without a target",
        experimental="keeps less than training less does",
    ),
}


@dataclass(frozen=True)
class Elsewhere:
    """A remedy that is no entry of `remedies`: a setting that does it already."""

    name: str
    how: str
    """What to write in a specification, as `--set` takes it."""
    paper: str
    experimental: str
    """As in RemedyEntry."""


ELSEWHERE = (
    Elsewhere(
        "experience replay",
        "mixture.replay_ratio=0.25",
        "Rolnick et al., 2019, https://arxiv.org/abs/1811.11682",
        "",
    ),
    Elsewhere(
        "replay sources by size",
        "mixture.temperature=3",
        "Conneau et al., 2020, https://arxiv.org/abs/1911.02116",
        "keeps less of the smaller source than drawing all sources alike",
    ),
    Elsewhere(
        "replay documents like the domain, or unlike it",
        "mixture.importance=towards_domain",
        "Xie et al., 2023, https://arxiv.org/abs/2302.03169",
        "keeps no more than documents drawn alike; those like the domain less",
    ),
    Elsewhere(
        "L2-SP",
        "method={kind: full, anchor: l2_sp, anchor_strength: 0.1}",
        "Li et al., 2018, https://arxiv.org/abs/1802.01483",
        "keeps no more than training less does",
    ),
    Elsewhere(
        "decay towards the base",
        "method={kind: full, anchor: decay_to_base, anchor_strength: 1}",
        "Loshchilov and Hutter, 2019, https://arxiv.org/abs/1711.05101",
        "",
    ),
    Elsewhere(
        "freezing of layers",
        "method={kind: selective, layers: 2}",
        "Lee et al., 2023, https://arxiv.org/abs/2210.11466",
        "keeps less than training less does",
    ),
    Elsewhere(
        "orthogonal subspace",
        "method={kind: osf}",
        "Nayak et al., 2025, https://arxiv.org/abs/2504.07097",
        "keeps less than training less does",
    ),
    Elsewhere(
        "low-rank updates",
        "method={kind: lora}",
        "Biderman et al., 2024, https://arxiv.org/abs/2405.09673",
        "keeps less than training less does",
    ),
    Elsewhere(
        "warming up and decaying again in each increment",
        "training.schedule=cosine",
        "Ibrahim et al., 2024, https://arxiv.org/abs/2403.08763",
        "keeps less than training less does, in one training",
    ),
    Elsewhere(
        "infinite learning rate",
        "training.schedule=infinite",
        "Ibrahim et al., 2024, https://arxiv.org/abs/2403.08763",
        "keeps less than training less does, in one training",
    ),
    Elsewhere(
        "warm-up, stable, decay",
        "training.schedule=wsd",
        "Hu et al., 2024, https://arxiv.org/abs/2404.06395",
        "forgets more",
    ),
)
"""Tests try each on the quick start."""
