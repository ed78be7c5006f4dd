"""The remedies there are. `rootstock remedies` and docs/forgetting.md are made from this table."""

from schemas.remedies import Distillation, Ema, Ewc, WeightAveraging
from tasks.training.remedies import distillation, ema, ewc, weight_averaging
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
    ),
    "weight_averaging": RemedyEntry(
        settings=WeightAveraging,
        attach=weight_averaging.attach,
        paper="Wortsman et al., 2022, https://arxiv.org/abs/2109.01903",
        does="goes back a part of the way to the base after training; how far is chosen on text kept from training",
        needs="replay sources (to choose by), or an alpha",
        costs="a copy of the weights that train; a few forward passes over the development set",
        refuses="methods whose update is not a straight line from the base; heads",
    ),
    "ema": RemedyEntry(
        settings=Ema,
        attach=ema.attach,
        paper="Tarvainen and Valpola, 2017, https://arxiv.org/abs/1703.01780",
        does="deploys the moving average of the weights, which starts at the base",
        needs="nothing",
        costs="a copy of what trains, in memory and in checkpoints",
        refuses="adalora and diff_pruning, which change what trains on the way",
    ),
}
