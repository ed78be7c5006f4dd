"""Export a model of method adapter_drop with fewer adapters in use: faster, at the cost that the score shows."""

import shutil
from pathlib import Path

from schemas.errors import UserError
from schemas.spec.methods.adapters import AdapterDrop
from tasks.data.model.folder import METHOD_FILE, is_tuned
from tasks.release.export.export import copy_model
from tasks.release.export.writing import require_new
from tasks.storage.atomic import write_atomic
from tasks.training.models.judged import require_judged
from tasks.training.models.load import load_tuned
from tasks.training.models.tuned_files import read_method


def export_with_dropped(model: Path, target: Path, drop_blocks: int) -> str:
    """Copy the model to a new folder; loaded from there, the lowest `drop_blocks` blocks compute without adapters.

    Raises:
        UserError: the target exists, the model was not trained to do without adapters, or no adapter would be left.
    """
    require_new(target)
    saved = read_method(model) if is_tuned(model) and (model / METHOD_FILE).is_file() else None
    if saved is None or not isinstance(saved.method, AdapterDrop) or saved.method.training != "robust":
        fix = "train with method adapter_drop and training: robust, or leave out --drop-blocks"
        raise UserError("the model was not trained to do without some of its adapters", str(model), fix)
    require_judged(model)
    settings = AdapterDrop.model_validate({**saved.method.model_dump(), "drop_blocks": drop_blocks})
    copy_model(model, target)
    write_atomic(
        target / METHOD_FILE, saved.model_copy(update={"method": settings}).model_dump_json(indent=1)
    )
    try:
        load_tuned(target)
    except UserError:
        shutil.rmtree(target)
        raise
    return f"adapters copied to {target}; the lowest {drop_blocks} blocks compute without theirs: evaluate it again"
