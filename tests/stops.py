"""Thirty random stops of `rootstock serve`, its server, a training and a worker, over a schedule of seconds.

    python -m tests.stops [NUMBER] [SEED]

Each due increment must be learned exactly once, no run stay *Running* without a process, no schedule or edit be lost, and no
cancelled run be promoted. Takes half an hour on two cores, so it is no test of `make test-slow`.
"""

import os
import random
import signal
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

from schemas.spec.run import RunSpec
from tasks.release.increments.watermark import load_watermark
from tasks.release.registry import versions as registry
from tasks.release.run.run_folder import dump_yaml
from tests.flows.test_increments import TRADES, growing, rows, write
from tests.flows.test_lifecycle import Lives, alive
from tests.flows.test_serve import wait_until

STOPS = (
    "serve SIGTERM", "serve SIGINT", "serve SIGHUP", "serve SIGKILL", "serve SIGTERM twice", "server SIGKILL",
    "server SIGTERM", "training SIGKILL", "training SIGTERM", "worker SIGKILL", "cancelled on the page",
    "cancelled while serve stands still",
)  # fmt: skip
EDIT = 0.125


class Stops:
    """One state folder, its schedule, and what was done to it."""

    def __init__(self, folder: Path, seed: int):
        self.folder, self.random = folder, random.Random(seed)
        self.lives = Lives(folder)
        self.cancelled: set[str] = set()
        self.arrived = 0
        training = {
            "steps": 120,
            "sequence_length": 64,
            "batch_tokens": 512,
            "learning_rate": 2e-3,
            "checkpoint_every": 10,
        }
        spec: RunSpec = growing(folder, training=training)
        (folder / "grown.yaml").write_text(dump_yaml(spec.model_dump(mode="json", exclude_none=True)))
        self.lives.start()
        served = self.lives.served
        nightly = served.deployment("continual-training-nightly", "continual-training")
        (cron,) = nightly["schedules"]
        self.nightly = nightly["id"]
        served.ask("PATCH", f"/deployments/{self.nightly}/schedules/{cron['id']}", {"active": False})
        form = {"spec": "grown.yaml", "state": ".rootstock"}
        schedule = {"schedule": {"interval": 10}, "active": True, "parameters": form}
        served.ask("POST", f"/deployments/{self.nightly}/schedules", [schedule])
        self.plain = served.deployment("continual-training", "continual-training")["id"]
        edit = {"parameters": {"state": ".rootstock", "replay_ratio": EDIT}}
        served.ask("PATCH", f"/deployments/{self.plain}", edit)

    def arrive(self) -> None:
        """Something new to learn, if what arrived before was learned."""
        if self.learned() == self.arrived:
            trade = TRADES[self.arrived % len(TRADES)]
            write(
                self.folder / "new" / f"{self.arrived}.txt",
                [f"{row} {self.arrived}" for row in rows(trade, 80)],
            )
            self.arrived += 1

    def learned(self) -> int:
        return len(load_watermark(self.folder / ".rootstock", "trades").records)

    def running(self) -> list[Any]:
        wanted = {"flow_runs": {"state": {"type": {"any_": ["RUNNING", "PENDING", "CANCELLING"]}}}}
        found: list[Any] = self.lives.served.ask("POST", "/flow_runs/filter", wanted)
        return found

    def stop(self, what: str) -> str:
        """Do it; return what it hit."""
        whom, _, how = what.partition(" ")
        if whom == "serve":
            word = how.split()[0]
            if how.endswith("twice"):
                os.kill(self.lives.served.process.pid, signal.SIGTERM)
            code = self.lives.stop(signal.Signals[word])
            assert code == {"SIGINT": 130, "SIGKILL": -9}.get(word, 143), (what, code, self.lives.log[-2000:])
            self.lives.start()
            return "serve"
        if whom == "server":
            os.kill(self.lives.server(), signal.Signals[how])
            return "the server"
        if whom == "cancelled":
            return self.cancel(still="still" in how)
        victims = self.lives.runs()
        if whom == "worker":
            victims = [child for one in victims for child in one.children(recursive=True)]
        if not victims:
            return "nobody"
        os.kill(self.random.choice(victims).pid, signal.Signals[how])
        return f"a {whom}"

    def cancel(self, still: bool) -> str:
        with suppress(httpx.HTTPError):
            if not (runs := self.running()):
                return "nobody"
            process = self.lives.served.process.pid
            victims = self.lives.runs()
            if still:
                os.kill(process, signal.SIGSTOP)
            try:
                answer = self.lives.served.ask(
                    "POST",
                    f"/flow_runs/{runs[0]['id']}/set_state",
                    {"state": {"type": "CANCELLING", "name": "Cancelling"}},
                )
                if answer["status"] != "ACCEPT":
                    return "nobody (it had ended)"
                self.cancelled.add(runs[0]["id"])
                before = self.learned()
                if still:  # nobody tells the run: it asks by itself
                    wait_until(lambda: not any(map(alive, victims)), 200)
                    assert self.learned() == before, "a cancelled run was promoted"
            finally:
                if still:
                    os.kill(process, signal.SIGCONT)
            return "a run"
        return "nobody (the server was away)"

    def require(self) -> None:
        """What must hold in the end."""
        served = self.lives.served
        plans = served.deployment("continual-training-nightly", "continual-training")["schedules"]
        assert sorted((plan["active"], "cron" in plan["schedule"]) for plan in plans) == [
            (False, True),
            (True, False),
        ]
        assert (
            served.deployment("continual-training", "continual-training")["parameters"]["replay_ratio"]
            == EDIT
        )
        records = load_watermark(self.folder / ".rootstock", "trades").records
        assert [record.number for record in records] == list(range(1, len(records) + 1))
        files = [Path(file).name for record in records for file in record.files]
        assert sorted(files) == sorted(f"{number}.txt" for number in range(self.arrived)), "each exactly once"
        wait_until(lambda: len(self.running()) <= len(self.lives.runs()), 60)
        for run in self.cancelled:
            assert served.run(run)["state_type"] == "CANCELLED", served.run(run)["state"]
        assert registry.champion(self.folder / ".rootstock", "trades") is not None


def main() -> None:
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().randrange(2**32)
    folder = Path(tempfile.mkdtemp(prefix="rootstock-stops-"))
    print(f"seed {seed}, {folder}", flush=True)
    stops = Stops(folder, seed)
    started = time.monotonic()
    for turn in range(number):
        stops.arrive()
        time.sleep(stops.random.uniform(3, 60))
        what = STOPS[turn % len(STOPS)] if turn < len(STOPS) else stops.random.choice(STOPS)
        hit = stops.stop(what)
        seconds = time.monotonic() - started
        print(
            f"{turn + 1:3} {seconds:6.0f} s  {what}: hit {hit}; {stops.learned()} of {stops.arrived} learned",
            flush=True,
        )
    wait_until(lambda: stops.learned() == stops.arrived, 300)
    time.sleep(15)
    stops.require()
    print(
        f"{number} stops, {stops.arrived} increments, each learned once; {len(stops.cancelled)} runs cancelled, none promoted"
    )
    assert stops.lives.stop(signal.SIGTERM) == 143


if __name__ == "__main__":
    main()
