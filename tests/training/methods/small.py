"""Settings of every method that suit the tiny models of the tests, and what a method is known not to do."""

from typing import Any

SMALL: dict[str, dict[str, Any] | None] = {
    "full": {},
    "lora": {"r": 4, "alpha": 16},
    "adalora": {"init_r": 4, "target_r": 2, "delta_t": 1},
    "qlora": {"r": 4, "alpha": 64, "dropout": 0},
    "ia3": {},
    "vera": {"r": 8},
    "osf": {},
    "prompt_tuning": {"virtual_tokens": 6},
    "prefix_tuning": {"virtual_tokens": 4, "hidden_size": 8},
    "p_tuning": {"virtual_tokens": 4, "hidden_size": 8},
    "p_tuning_v2": {"virtual_tokens": 4},
    "selective": {"layers": 1},
    "head_only": {},
    "bitfit": {},
    "lisa": {"layers": 1, "interval": 2},
    "sparse": {"trainable_ratio": 0.1},
    "fisher": {"trainable_ratio": 0.1, "samples": 20},
    "diff_pruning": {"target_ratio": 0.1},
    "adapter": {"size": 4},
    "adapter_pfeiffer": {"size": 4},
    "adapter_parallel": {"size": 4},
    "adapter_drop": {"size": 4, "drop_blocks": 1},
    "adapter_fusion": None,  # needs adapters of earlier trainings: see test_adapter_fusion.py
    "mam": {"size": 4, "prefix_length": 3, "prefix_mlp_size": 8},
    "unipelt": {"size": 4, "r": 2, "prefix_length": 3, "prefix_mlp_size": None},
    "p_tuning_template": {"template": "{v3}{text:4}{v2}{text}"},
}
"""kind -> settings; None where the method needs models of earlier trainings."""

NOT_THE_BASE_AT_START: dict[str, str] = {
    "osf": "the update starts as the difference of two equal products, which rounds",
    "prompt_tuning": "virtual tokens are read from the first step on",
    "prefix_tuning": "virtual tokens are read from the first step on",
    "p_tuning": "virtual tokens are read from the first step on",
    "p_tuning_v2": "virtual tokens are read from the first step on",
    "adapter_fusion": "what the adapters give is weighed, and each of them has learned something",
    "mam": "a prefix takes its share of attention from the first step on",
    "unipelt": "a prefix takes its share of attention from the first step on",
    "p_tuning_template": "virtual tokens are read from the first step on",
}
"""kind -> why training does not start at exactly the base model."""

NO_WAY_BACK: dict[str, str] = {
    "full": "every weight has moved",
    "lisa": "every weight may have moved",
}
"""kind -> why the base cannot be had back from the tuned model in memory."""

MERGE_TOLERANCE: dict[str, float] = {"full": 0.0}
"""kind -> largest difference of a logit between the method beside its base and merged into it (1e-4 unless given)."""

SAVED_ROUNDS: dict[str, str] = {
    "adalora": "the cut singular vectors are left out, so sums have fewer terms",
    "prefix_tuning": "the MLP's output is stored, computed once instead of per text",
    "p_tuning": "the encoder's output is stored, computed once instead of per text",
}
"""kind -> why a logit of the loaded model may differ from the trained one's, by at most SAVED_TOLERANCE."""

SAVED_TOLERANCE = 1e-6

WIDE = frozenset({"qlora"})
"""Kinds that need the wide tiny base."""

BIASED = frozenset({"bitfit"})
"""Kinds that need the tiny base with biases: Llama has none."""
