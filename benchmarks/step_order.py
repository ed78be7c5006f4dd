"""Labels and replay share of every step of a laid-out run: how full each is, and how far from the share of the whole.

    python -m benchmarks.step_order [STATE]

Reads the plans that runs have left in a state folder.
"""

import json
import sys
from pathlib import Path

import numpy as np
import yaml


def of_plan(folder: Path, num_domain: int, per_step: int) -> str:
    """Least and greatest number of label tokens, and of the replay share, over the steps of one plan."""
    pieces, sequences = np.load(folder / "pieces.npy"), np.load(folder / "sequences.npy")
    labels = pieces["length"].astype(np.int64) - pieces["context"]
    replay = np.where(pieces["source"] >= num_domain, labels, 0)  # domain sources come first
    starts = sequences[:-1:per_step]
    every, of_replay = np.add.reduceat(labels, starts), np.add.reduceat(replay, starts)
    shares = of_replay / every
    return (
        f"{len(starts)} steps of {every.min():,} to {every.max():,} labels; replay share {of_replay.sum() / every.sum():.4f},"
        f" of steps {shares.min():.3f} to {shares.max():.3f} (standard deviation {shares.std():.4f})"
    )


def main() -> None:
    """Tell of every finished run whose plan is still there."""
    state = Path(sys.argv[1] if len(sys.argv) > 1 else ".rootstock")
    for lineage in sorted(state.glob("runs/*/lineage.json")):
        spec = yaml.safe_load((lineage.parent / "spec.yaml").read_text())
        plan = json.loads(lineage.read_bytes())["steps"]["plan"]
        folder = state / "data" / f"plan-{plan[:20]}"
        if folder.is_dir():
            per_step = spec["training"]["batch_tokens"] // spec["training"]["sequence_length"]
            print(f"{lineage.parent.name}: {of_plan(folder, len(spec['domain']), per_step)}")


if __name__ == "__main__":
    main()
