"""A head's training in small: toy rows, a tiny base, and what training reads."""

from pathlib import Path
from typing import Any

from schemas.spec.run import RunSpec
from tasks.data.labels.labels import find_labels
from tasks.data.labels.model_head import head_labels
from tasks.data.plan.plan import open_sources, plan_training
from tasks.data.prepare import Prepared, Tokenized
from tasks.data.tokens.tokenize import tokenize_source
from tasks.data.tokens.tokenizer import special_ids
from tasks.training.inputs import TrainingInputs
from tasks.training.training_inputs import head_inputs
from tests.corpora import here, prepare_rows
from tests.toy_heads import toy_spec

CONTRACTS = {"text_classification": "labeled_text", "token_classification": "tagged_tokens"}


def head_spec(folder: Path, kind: str, base: Path, **keys: Any) -> RunSpec:
    """A run of a few steps on toy rows, written to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    return RunSpec.model_validate(toy_spec(folder, kind, base, **keys))


def prepare_head(root: Path, spec: RunSpec) -> tuple[Prepared, Tokenized, TrainingInputs]:
    """Do the data stages and open what training reads."""
    base = Path(str(spec.base))
    prepared = prepare_rows(root, spec)
    special = special_ids(base, framed=True)
    steps = {
        s.label: tokenize_source(root, s, base, here, spec.record_of(s.source)) for s in prepared.sources
    }
    training = [steps[s.label] for s in prepared.training]
    known = head_labels(base, spec.head_kind)
    labels = find_labels(root, spec, prepared.sources, steps, prepared.divided, special.vocab_size, known)
    plan = plan_training(root, spec, prepared.training, training, prepared.divided, special, labels)
    tokenized = Tokenized(special, steps, plan, labels)
    head = head_inputs(spec, prepared, tokenized)
    sources = open_sources(prepared.training, training, special)
    return prepared, tokenized, TrainingInputs(base, str(base), plan, sources, special, head)
