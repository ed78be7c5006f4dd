"""What a model folder says of its head: which objective it serves, and the names of its outputs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from schemas.spec.objectives import ObjectiveKind
from tasks.data.model.folder import read_config
from tasks.data.model.loading import loading

_ARCHITECTURES: dict[str, ObjectiveKind] = {
    "ForSequenceClassification": "text_classification",
    "ForTokenClassification": "token_classification",
}


TASKS = "rootstock_tasks"
"""Key of config.json: for each of several tasks its name, its first output, and the one after its last."""


@dataclass(frozen=True)
class TaskOutputs:
    """The outputs of one task among those of a head: start to stop, stop not included."""

    name: str
    start: int
    stop: int

    def plain(self, names: Sequence[str]) -> tuple[str, ...]:
        """This task's own labels, out of the names of all outputs."""
        return plain_names(names[self.start : self.stop], self.name)


def output_name(task: str | None, label: str) -> str:
    """What an output is called: two tasks may have labels of one name."""
    return label if task is None else f"{task}/{label}"


def plain_names(names: Sequence[str], task: str | None) -> tuple[str, ...]:
    """The labels of a task among the names of outputs; see `output_name`."""
    start = output_name(task, "")
    return tuple(name.removeprefix(start) for name in names if name.startswith(start))


def read_tasks(folder: Path) -> tuple[TaskOutputs, ...]:
    """The tasks of a model folder whose head serves several; empty for any other."""
    file = folder / "config.json"
    with loading(f"{TASKS} does not name tasks and their outputs", file, "export the run again"):
        return tuple(TaskOutputs(*task) for task in read_config(file).get(TASKS) or ())


def read_head(folder: Path) -> tuple[ObjectiveKind, tuple[str, ...]] | None:
    """Objective and output names of a model folder with a head, None for any other."""
    file = folder / "config.json"
    config = read_config(file)
    named = config.get("architectures") or ()
    for architecture in named if isinstance(named, list) else ():
        for suffix, kind in _ARCHITECTURES.items():
            if str(architecture).endswith(suffix):
                names = config.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}
                with loading(
                    "id2label does not name the outputs by their numbers", file, "fetch the model again"
                ):
                    return kind, tuple(str(names[number]) for number in sorted(names, key=int))
    return None


def head_labels(folder: Path, kind: ObjectiveKind) -> tuple[str, ...]:
    """Output names of a model that has a head for this objective; none for any other."""
    head = read_head(folder)
    return head[1] if head is not None and head[0] == kind else ()


def knows_labels(folder: Path, kind: ObjectiveKind, names: Sequence[str]) -> bool:
    """Whether a model has a head for this objective that can give at least one of these labels (O aside)."""
    outside = {name for name in names if name.rpartition("/")[2] == "O"}
    return bool(set(head_labels(folder, kind)) & set(names) - outside)
