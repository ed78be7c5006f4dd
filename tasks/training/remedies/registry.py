"""The remedies there are. `rootstock remedies` and docs/forgetting.md are made from this table."""

from schemas.remedies import Ewc
from tasks.training.remedies import ewc
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
}
