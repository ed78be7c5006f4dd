"""The remedies there are. `rootstock remedies` and docs/forgetting.md are made from this table."""

from schemas.remedies import Distillation, Ewc
from tasks.training.remedies import distillation, ewc
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
}
