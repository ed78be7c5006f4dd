"""Settings of every method that suit the tiny models of the tests, and what a method is known not to do."""

from typing import Any

SMALL: dict[str, dict[str, Any] | None] = {
    "full": {},
    "lora": {"r": 4, "alpha": 16},
    "adapter": {"size": 4},
    "adapter_pfeiffer": {"size": 4},
    "adapter_parallel": {"size": 4},
    "adapter_drop": {"size": 4, "drop_blocks": 1},
    "adapter_fusion": None,  # needs adapters of earlier trainings: see test_adapter_fusion.py
    "mam": {"size": 4, "prefix_length": 3, "prefix_mlp_size": 8},
    "unipelt": {"size": 4, "r": 2, "prefix_length": 3, "prefix_mlp_size": None},
    "p_tuning_template": {"template": "{v3}{text:4}{v2}{text}"},
}
"""kind -> settings."""

NOT_THE_BASE_AT_START: dict[str, str] = {
    "mam": "a prefix takes its share of attention from the first step on",
    "unipelt": "a prefix takes its share of attention from the first step on",
    "p_tuning_template": "virtual tokens are read from the first step on",
}
"""kind -> why training does not start at exactly the base model."""

NO_WAY_BACK: dict[str, str] = {"full": "every weight has moved"}
"""kind -> why the base cannot be had back from the tuned model in memory."""

MERGE_TOLERANCE: dict[str, float] = {"full": 0.0}
"""kind -> largest difference of a logit between the method beside its base and merged into it (1e-4 unless given)."""
