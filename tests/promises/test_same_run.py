"""A whole run, and what the command line says of it."""

from tests.command_line import rootstock
from tests.promises.conftest import Project


def test_a_run_ends_with_its_verdict(project: Project) -> None:
    done = rootstock("run", "spec.yaml", "--no-prefect", cwd=project.folder)
    print(done.err, done.out)
    assert done.code == 0, done.err
    assert done.out.splitlines()[-1] == "verdict: promote"
    assert "prefect" not in done.heavy
