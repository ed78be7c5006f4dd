"""Run the sides of a comparison in turn, each time in a fresh process, and write what came out."""

import importlib.metadata
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "PYTHONWARNINGS": "ignore",
}


def run_side(module: str, arguments: Sequence[str], folder: Path) -> dict[str, Any]:
    """Run `python -m module arguments` in a fresh process and return the JSON it writes to `--report`.

    Raises:
        SystemExit: the process failed; its last lines are shown.
    """
    report = folder / "report.json"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", module, *arguments, "--report", str(report)]
    environment = {
        **os.environ,
        **OFFLINE,
        "PYTHONPATH": str(ROOT),
        "HF_DATASETS_CACHE": str(folder / "datasets"),
    }
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode or not report.is_file():
        raise SystemExit(f"{' '.join(arguments)} failed:\n" + "\n".join(done.stderr.splitlines()[-15:]))
    result: dict[str, Any] = json.loads(report.read_bytes())
    return result


def scratch_folder() -> tempfile.TemporaryDirectory[str]:
    """A temporary folder of one repetition."""
    return tempfile.TemporaryDirectory(prefix="rootstock-benchmark-")


def describe_machine(libraries: Sequence[str], device: str = "cpu") -> dict[str, Any]:
    """Processor, memory, versions and load: nothing that names the machine or its folders."""
    cpu = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    if device == "cuda":
        import torch

        cpu = f"{torch.cuda.get_device_name()}, {cpu}"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory / 2**30),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name).split("+")[0] for name in libraries},
        "load_average_at_start": round(os.getloadavg()[0], 2),
    }


def peak_memory_bytes() -> int:
    """Most memory held so far by this process or by the largest of its finished children."""
    held = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return 1024 * max(held)


def cpu_seconds() -> float:
    """Processor time used so far by this process and its finished children: it hardly depends on what else runs."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def median_ratio(numerator: Sequence[float], denominator: Sequence[float]) -> dict[str, float]:
    """Ratio of the medians, and the smallest and largest ratio of one repetition's pair."""
    pairs = [above / below for above, below in zip(numerator, denominator, strict=True)]
    return {
        "ratio": statistics.median(numerator) / statistics.median(denominator),
        "lowest": min(pairs),
        "highest": max(pairs),
    }


def write_results(name: str, result: dict[str, Any], lines: Sequence[str]) -> None:
    """Write `results/<name>.json` and `.md`, and show the latter."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    text = "\n".join(lines) + "\n"
    (RESULTS / f"{name}.md").write_text(text)
    print(text)


def machine_lines(machine: dict[str, Any], command: str) -> list[str]:
    """The lines of a table file that say where and how it was measured."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return [
        f"Command: `{command}`",
        "",
        f"Machine: {machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['system']};"
        f" load average {machine['load_average_at_start']} at the start. Python {machine['python']}, {versions}.",
    ]
