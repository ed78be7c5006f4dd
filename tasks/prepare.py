"""The data stages as Prefect tasks: prepare, provide_base, tokenize."""

from pathlib import Path

from prefect import State, task
from prefect.cache_policies import NO_CACHE

from schemas.errors import ContractFailed
from schemas.spec.run import RunSpec
from tasks.data import prepare as plain
from tasks.data.prepare import Note, Prepared, Tokenized
from tasks.page import show_contracts, show_ledger, show_mixture
from tasks.stage import RETRIES, RETRY_DELAY_SECONDS, machine_failed, run_stage
from tasks.storage.workers import ShardMap
from tasks.training.models import base_model as plain_base


@task(
    name="prepare", task_run_name="prepare", cache_policy=NO_CACHE,
    retries=RETRIES, retry_delay_seconds=RETRY_DELAY_SECONDS, retry_condition_fn=machine_failed,
)  # fmt: skip
def prepare(root: Path, spec: RunSpec, map_shards: ShardMap, note: Note) -> State[Prepared]:
    """Read, validate, check the contracts, deduplicate, split."""

    def work() -> Prepared:
        try:
            prepared = plain.prepare(root, spec, map_shards=map_shards, note=note)
        except ContractFailed as error:
            show_contracts(spec.name, error.reports)
            raise
        show_contracts(spec.name, prepared.gates)
        show_ledger(spec.name, prepared.ledger)
        return prepared

    return run_stage(root, work)


@task(
    name="provide-base", task_run_name="provide-base", cache_policy=NO_CACHE,
    retries=RETRIES, retry_delay_seconds=RETRY_DELAY_SECONDS, retry_condition_fn=machine_failed,
)  # fmt: skip
def provide_base(
    root: Path, spec: RunSpec, prepared: Prepared, champion: Path | None
) -> State[plain_base.BaseModel]:
    """Find, download or make the base model."""
    return run_stage(root, lambda: plain_base.provide_base(root, spec, prepared, champion))


@task(
    name="tokenize", task_run_name="tokenize", cache_policy=NO_CACHE,
    retries=RETRIES, retry_delay_seconds=RETRY_DELAY_SECONDS, retry_condition_fn=machine_failed,
)  # fmt: skip
def tokenize(
    root: Path, spec: RunSpec, prepared: Prepared, base: Path, map_shards: ShardMap, note: Note
) -> State[Tokenized]:
    """Tokenise every source and lay out the mixture, token by token."""

    def work() -> Tokenized:
        tokenized = plain.tokenize(root, spec, prepared, base, map_shards=map_shards, note=note)
        show_mixture(spec.name, tokenized)
        return tokenized

    return run_stage(root, work)
