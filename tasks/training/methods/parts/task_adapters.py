"""One of Pfeiffer's adapters for each of several tasks, trained in parallel on one frozen body.

AdapterFusion (Pfeiffer et al., 2021, https://arxiv.org/abs/2005.00247), section 2.2.2, knows two ways to its adapters
Phi_1 ... Phi_N. ST-A trains each alone on the frozen Theta_0. MT-A (Stickland and Murray, 2019) trains them in parallel
with the sum of the tasks' losses, L_n(D_n; Theta_0, Phi_n), and Theta_0 with them.

Here they are trained in parallel with the weighted sum of the losses, and Theta_0 is frozen, as the fusion needs one
base for all: what every run can share is the base it began with. A document goes through its own task's adapter only.
With Theta_0 frozen the tasks meet in nothing but the order of steps, the clipped norm of the gradient and the
learning rate, so each adapter is much what ST-A would make of it: one run, one plan and one verdict in place of N.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from schemas.errors import UserError
from tasks.training.methods.parts.insertion import CONTAINER, WEIGHTS, InsertedTuned, require_same
from tasks.training.models.soundness import read_tensors

if TYPE_CHECKING:
    import torch

    Tensors = dict[str, torch.Tensor]

PREFIX = "task_"


class TaskAdaptersTuned(InsertedTuned):
    """A set of adapters for each task; the head has outputs for all of them, and each reads its own."""

    def use_task(self, name: str) -> None:
        """Compute with this task's adapters from now on.

        Raises:
            UserError: there are none of this name.
        """
        if name not in self.tasks:
            what = f"no task is called {name}"
            raise UserError(what, name, f"known: {', '.join(self.tasks)}")
        self.active = key_of(name)

    def add(self, name: str, folder: Path) -> None:
        """Not to be had: the adapters belong to the tasks of one head.

        Raises:
            UserError: always.
        """
        fix = "load it by itself, or fuse its adapters: method adapter_fusion, adapters FOLDER#TASK"
        raise UserError("adapters of several tasks stand beside no others", str(folder), fix)

    def begin_tasks(self, tasks: tuple[str, ...]) -> Self:
        """Insert new adapters for every task, ready to train; torch is seeded before."""
        self._insert_tasks(tasks, None)
        self.train()
        return self

    def _insert_tasks(self, tasks: tuple[str, ...], folder: Path | None) -> None:
        for task in tasks:
            self.insert(key_of(task), self.build(self.architecture, self.settings, folder))
        self.tasks = tasks
        self.use_task(tasks[0])

    def modules(self) -> Any:
        """The adapters of all tasks, a ModuleDict of ModuleDicts: they train and are stored together."""
        return getattr(self.model, CONTAINER)

    def load(self, folder: Path) -> Self:
        """Insert the adapters of every task that a folder holds, ready to use.

        Raises:
            UserError: the file does not fit the model.
        """

        tensors = read_tensors(folder / WEIGHTS)
        self._insert_tasks(saved_tasks(tensors), folder)
        own = {
            name.removeprefix(f"{CONTAINER}."): tensor
            for name, tensor in tensors.items()
            if name.startswith(f"{CONTAINER}.")
        }
        wanted = {name: tensor.shape for name, tensor in self.modules().state_dict().items()}
        require_same({name: tensor.shape for name, tensor in own.items()}, wanted, folder)
        self.modules().load_state_dict(own)
        head = {name: tensor for name, tensor in tensors.items() if not name.startswith(f"{CONTAINER}.")}
        self.head = tuple(sorted({name.rpartition(".")[0] for name in head}))
        self._load_head(head, str(folder))
        self.model.requires_grad_(False)
        return self


def key_of(task: str) -> str:
    """What a task's adapters are called in the model: no attribute of torch's modules begins so."""
    return f"{PREFIX}{task}"


def saved_tasks(tensors: "Tensors") -> tuple[str, ...]:
    """Names of the tasks whose adapters a file holds, in the order of the alphabet."""
    start = f"{CONTAINER}.{PREFIX}"
    found = [name.removeprefix(start).partition(".")[0] for name in tensors if name.startswith(start)]
    return tuple(sorted(set(found)))
