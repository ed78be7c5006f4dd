"""Five increments, English and Chinese in turn, learned by a schedule while nobody watches."""

import json
from typing import Any

import pytest

from tasks.release.increments.watermark import load_watermark, scores_file
from tasks.release.run.run_folder import dump_yaml
from tests.flows.test_increments import growing, rows, write
from tests.flows.test_serve import RUN_SECONDS, Served, served, wait_until

__all__ = ["served"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]
ENGLISH = ("graft scion rootstock", "keel mast rudder", "loom warp weft")
CHINESE = ("桅杆 船舵 龙骨", "砧木 接穗 果树")


def chinese_rows(trade: str, number: int) -> list[str]:
    a, b, c = trade.split()
    return [f"第{i}号{a}在{i * 7 % 97}号院里等着{b},而{c}要到{i * 3 % 23}点才会送来。" for i in range(number)]


def test_five_increments_are_learned_by_a_schedule(served: Served) -> None:
    files = served.files
    arriving = [rows(ENGLISH[0], 60), chinese_rows(CHINESE[0], 60), rows(ENGLISH[1], 60)]
    arriving += [chinese_rows(CHINESE[1], 60), rows(ENGLISH[2], 60)]
    spec = growing(files)
    (files / "grown.yaml").write_text(dump_yaml(spec.model_dump(mode="json", exclude_none=True)))
    write(files / "new" / "0.txt", arriving[0])
    nightly = served.deployment("continual-training-nightly", "continual-training")["id"]
    form = {"spec": "grown.yaml", "state": ".rootstock"}
    schedule = {"schedule": {"interval": 10}, "active": True, "parameters": form}
    [created] = served.ask("POST", f"/deployments/{nightly}/schedules", [schedule])
    state = files / ".rootstock"

    def learned(number: int) -> Any:
        return len(load_watermark(state, "trades").records) >= number

    for number, lines in enumerate(arriving[1:], 1):
        wait_until(lambda number=number: learned(number), RUN_SECONDS)
        write(files / "new" / f"{number}.txt", lines)  # the next one arrives; no one starts anything
    wait_until(lambda: learned(5), RUN_SECONDS)
    served.ask("DELETE", f"/deployments/{nightly}/schedules/{created['id']}")

    records = load_watermark(state, "trades").records
    assert [record.number for record in records] == [1, 2, 3, 4, 5]
    assert [sorted(f.rsplit("/", 1)[1] for f in r.files) for r in records] == [[f"{n}.txt"] for n in range(5)]
    found = json.loads(scores_file(state, "trades").read_text())
    assert len(found["scores"]) == len(found["runs"]) == 5
    assert all(score is not None for score in found["scores"][-1]), "every increment is scored to the last"
    begun = {"type": {"any_": ["COMPLETED"]}}
    wanted = {"flow_runs": {"deployment_id": {"any_": [nightly]}, "state": begun}}

    def ended() -> Any:  # a run's state follows what it learned
        runs = served.ask("POST", "/flow_runs/filter", wanted)
        return [run["state_name"] for run in runs].count("Promoted") == 5 and runs

    runs = wait_until(ended, RUN_SECONDS)
    assert all(run["auto_scheduled"] for run in runs)
    assert {run["state_name"] for run in runs} <= {"Promoted", "NoNewData"}
    served.process.terminate()
    served.process.wait(120)
