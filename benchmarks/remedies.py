"""Every remedy against forgetting, in pairs with its control, on stories260K: `rootstock compare-remedies`, forked.

    python -m benchmarks.remedies

Needs ROOTSTOCK_DATA. Writes results/remedies.{json,md}; `make docs` puts the table into docs/forgetting.md.
"""

import shutil
from pathlib import Path

from benchmarks import measure
from benchmarks.forked import fork_jobs, load_libraries
from flows.comparing.load import load_remedy_comparison
from flows.comparing.remedies import compare_remedies


def main() -> None:
    """Run what is missing."""
    load_libraries()
    comparison, jobs = load_remedy_comparison(measure.ROOT / "runs" / "remedies" / "stories.yaml")
    folder = compare_remedies(comparison, jobs, Path(".rootstock"), fork_jobs)
    shutil.copy(folder / "remedies.json", measure.RESULTS / "remedies.json")
    shutil.copy(folder / "table.md", measure.RESULTS / "remedies.md")


if __name__ == "__main__":
    main()
