"""Several tuned models on one base in memory: switched between calls, without loading anything again.

several = load_several({"legal": "out/legal", "news": "out/news"})
several.use("legal").generate(...)
several.use(None)  # the base
"""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from schemas.errors import UserError
from tasks.data.labels.model_head import read_head
from tasks.data.model.folder import ADAPTER_CONFIG, METHOD_FILE, is_tuned, model_sha256, read_config
from tasks.training.methods.base import TRAINED, Tuned
from tasks.training.models.load import find_base, load_tuned
from tasks.training.models.tuned_files import read_method
from tasks.training.models.weights import find_model


class Several:
    """One base and the tuned models that stand on it, of which one is in use, or none.

    What is computed equals, to the bit, what the same model computes loaded alone by `tuned.load_tuned`; merging (as
    `models.load_model` does) rounds.
    """

    def __init__(self, tuned: Tuned, names: Mapping[str, str]):
        self.tuned = tuned
        self.in_use: str | None = None
        """Name of the tuned model that computes now; None for the base."""
        self._names = dict(names)  # the user's names may have dots, which torch forbids
        self._off = contextlib.ExitStack()
        self._off.enter_context(tuned.disabled())

    @property
    def names(self) -> tuple[str, ...]:
        """The tuned models, in the order they were given."""
        return tuple(self._names)

    @property
    def model(self) -> Any:
        """Call it and generate with it; what it computes is what is in use."""
        return self.tuned.model

    def use(self, name: str | None) -> Any:
        """Let the model compute as this tuned model from now on, or as the base; return the model.

        Raises:
            UserError: there is none of this name.
        """
        if name is not None and name not in self._names:
            raise UserError(f"no tuned model is called {name}", name, f"known: {', '.join(self.names)}")
        if name is None:
            if self.in_use is not None:
                self._off.enter_context(self.tuned.disabled())
        else:
            self._off.close()
            self.tuned.activate(self._names[name])
        self.in_use = name
        return self.model


def load_several(folders: Mapping[str, str | Path], dtype: Any = None) -> Several:
    """Load the base once, and every tuned model (name -> its folder) onto it; the first is in use. See models.load_model.

    In memory are the base and what each model adds; of methods that change the base's own weights (bitfit, selective),
    the weights that each changed.

    Raises:
        UserError: they are not of one base and one method, the method cannot be switched, or a folder does not fit.
    """
    if not folders:
        raise UserError("there is nothing to switch", "load_several", "name at least one tuned model")
    found = {name: find_model(str(folder)) for name, folder in folders.items()}
    _require_alike({name: (_kind_and_base(name, folder), folder) for name, folder in found.items()})
    (first, folder), *others = found.items()
    tuned = load_tuned(folder, dtype)
    tuned.model.requires_grad_(False)
    names = {first: TRAINED}
    for number, (name, folder) in enumerate(others, start=2):
        names[name] = f"tuned_{number}"
        tuned.add(names[name], folder)
    tuned.model.requires_grad_(False)
    tuned.model.eval()
    several = Several(tuned, names)
    several.use(first)
    return several


def _kind_and_base(name: str, folder: Path) -> tuple[str, str]:
    """Method and sha256 of the base."""
    if not is_tuned(folder):
        what = f"{name} is full weights: it shares none with its base, so there is nothing to switch"
        raise UserError(what, str(folder), "load it by itself, or switch between adapters")
    if (head := read_head(folder)) is not None:
        what = f"{name} is a model for {head[0]}: its head is not the base's"
        raise UserError(what, str(folder), "load it by itself")
    if not (folder / METHOD_FILE).is_file():
        kind = read_config(folder / ADAPTER_CONFIG).get("peft_type")
        return f"PEFT's {kind}", model_sha256(find_base(folder))
    saved = read_method(folder)
    return saved.method.kind, saved.base_sha256


def _require_alike(found: Mapping[str, tuple[tuple[str, str], Path]]) -> None:
    (first, ((kind, base), _)), *others = found.items()
    for name, ((other_kind, other_base), folder) in others:
        if other_base != base:
            what = f"{first} and {name} are not of one base (sha256 {base[:12]} and {other_base[:12]})"
            raise UserError(what, str(folder), "switch between models that were tuned from one base")
        if other_kind != kind:
            what = f"{first} was tuned by {kind}, {name} by {other_kind}"
            raise UserError(what, str(folder), "switch between models of one method")
