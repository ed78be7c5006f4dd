"""One training of a comparison, in a process of its own: `python -m flows.comparing.cell JOB RESULT ERROR`.

JOB is a JSON file with a whole specification and the state folder. What cannot work here is a result, not a failure;
anything else that goes wrong is left in the file ERROR, and the process exits with its code.
"""

import json
import sys
from pathlib import Path

from flows.comparing.handed_back import write_error
from flows.environment.surroundings import quiet_environment
from flows.progress.failures import defect, machine_error
from schemas.errors import ExitCode, UserError
from schemas.results.comparison import Trained
from schemas.results.counts import Parameters
from schemas.spec.run import RunSpec
from tasks.storage.signals import end_when_asked

REFUSALS = ("method", "remedies")
"""Where an error lies that is about what is compared, not about what is shared."""


def train_cell(spec: RunSpec, state: Path) -> Trained:
    """Train and score; finished steps are taken as they are."""
    from flows.growing.effective import effective
    from flows.progress.watch import Silent
    from flows.run.journey import measure
    from tasks.training.loop.progress_file import read_metrics

    try:
        measured = measure(effective(spec, state, None, Silent()), state, Silent())
    except UserError as error:
        if error.exit_code == ExitCode.TRAINING_FAILED or error.where.startswith(REFUSALS):
            return Trained(refused=f"{error.what} ({error.fix})")
        raise
    metrics = read_metrics(measured.trained.folder / "metrics.jsonl")
    return Trained(
        scores=measured.scores,
        parameters=Parameters.model_validate(measured.trained.facts["parameters"]),
        seconds=metrics[-1].seconds,
        domain_tokens=measured.tokenized.mixture.domain_tokens,
        replay_tokens=measured.tokenized.mixture.replay_tokens,
        peak_memory_bytes=max(line.peak_memory_bytes for line in metrics),
        latency=measured.latency,
    )


def main(job_file: str, result_file: str, error_file: str) -> None:
    """Do one job."""
    from tasks.storage.atomic import write_atomic

    quiet_environment()
    end_when_asked()
    job = json.loads(Path(job_file).read_bytes())
    try:
        result = train_cell(RunSpec.model_validate(job["spec"]), Path(job["state"]))
        write_atomic(Path(result_file), result.model_dump_json())
        return
    except UserError as error:
        failure = error
    except OSError as error:
        failure = machine_error(error) or defect(error)
    except Exception as error:
        failure = defect(error)
    write_error(Path(error_file), failure)
    raise SystemExit(int(failure.exit_code))


if __name__ == "__main__":
    main(*sys.argv[1:])
