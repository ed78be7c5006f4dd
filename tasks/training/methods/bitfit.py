"""BitFit: Simple Parameter-efficient Fine-tuning for Transformer-based Masked Language-models (Ben Zaken et al., 2022, https://arxiv.org/abs/2106.10199)."""

from typing import Any

from schemas.errors import UserError
from schemas.spec.methods.subset import BitFit
from tasks.training.methods.base import TrainingContext, Tuned
from tasks.training.methods.parts.own_weights import in_head, train_only
from tasks.training.methods.parts.peft_backed import linear_layers

QUERIES = {"q_proj", "query", "q_lin", "q", "query_proj"}
"""What transformers' models call the projection of queries, where it is a matrix of its own."""


def attach(model: Any, settings: BitFit, context: TrainingContext) -> Tuned:
    """Let biases train, those of the normalisation layers included. Training starts at the base model.

    Raises:
        UserError: the model has no biases (Llama and most models like it), or not those of the paper's subset.
    """
    biases = {
        name
        for name, _ in model.named_parameters()
        if name.rsplit(".", 1)[-1] == "bias" and not in_head(name, context)
    }
    if not biases:
        raise UserError(
            f"{type(model).__name__} has no biases",
            "method.kind",
            "use ia3, which trains as few numbers, or lora (BERT, GPT-2, OPT and Qwen2 have biases)",
        )
    if settings.biases == "query_and_second_mlp":
        subset = _subset(model, context)
        if missing := sorted(subset - biases) or not subset:
            raise UserError(
                "the model does not have the biases of the paper's subset"
                + (f": {missing[0]} is missing" if isinstance(missing, list) else ""),
                "method.biases",
                f"set it to all: the model has {len(biases)} others",
            )
        biases = subset
    return train_only(model, biases, context)


def _subset(model: Any, context: TrainingContext) -> set[str]:
    """Biases of the queries (b_q) and of the matrix that widens to the inner activations (b_m2, the paper's figure 1)."""
    hidden = model.config.get_text_config().hidden_size
    queries, widening = set(), set()
    for name, module in linear_layers(model, context).items():
        parts = name.split(".")
        attention = any("attn" in part or "attention" in part for part in parts[:-1])
        outputs = module.weight.shape[1 if type(module).__name__ == "Conv1D" else 0]
        if parts[-1] in QUERIES:
            queries.add(f"{name}.bias")
        elif outputs > hidden and not attention:
            widening.add(f"{name}.bias")
    return queries | widening if queries and widening else set()
