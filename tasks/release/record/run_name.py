"""Name a run by its data, its specification and the code."""

from collections.abc import Mapping
from pathlib import Path

from data_contracts.contract import contract_sha256, load_contract
from schemas.errors import UserError
from schemas.reading.load import expand, is_hub_id, source_files, sources_of
from schemas.spec.run import RunSpec
from tasks.data.model.folder import model_sha256
from tasks.data.validate.file_steps import hash_files
from tasks.release.record.run_record import weights_of
from tasks.release.registry import incumbent
from tasks.release.registry import versions as registry
from tasks.storage.code import project_version
from tasks.storage.hashing import sha256_value


def name_run(state: Path, spec: RunSpec, files: Mapping[str, str] | None = None) -> str:
    """The id of a specification's run: its name and a hash of everything that goes in.

    A candidate that starts from a champion is named by that champion's weights: of an increment by those of its parent, so
    that it is found again when other champions have followed.

    Raises:
        UserError: a file cannot be read, or there is no champion yet.
    """
    files = _hash_data(spec) if files is None else files
    named = {*spec.contracts, *(source.contract for _, source in sources_of(spec))}
    contracts = {contract: contract_sha256(load_contract(contract)) for contract in named}
    original = None if spec.increment is None else _identity(spec.increment.original)

    def name(base: str | None) -> str:
        key = [spec.model_dump(mode="json"), files, contracts, original, base, project_version()]
        return f"{spec.name}-{sha256_value(key)[:10]}"

    if isinstance(spec.base, str):
        return name(_identity(spec.base))
    if spec.base_from is None:
        return name(None)
    parent = None if spec.increment is None else spec.increment.parent
    if parent is not None and (weights := weights_of(state, parent)) is not None:
        return name(weights)
    champion = registry.champion(state, spec.name)
    if champion is None:
        raise UserError(
            f"base_from: there is no champion of '{spec.name}' yet",
            str(state / "registry.db"),
            "start the first run with `base: FOLDER or Hub id`",
        )
    before = incumbent.began_with(state / "runs" / champion.run_id)
    killed_in_promotion = before is not None and name(before) == champion.run_id
    return name(before if killed_in_promotion else champion.weights_sha256)


def _hash_data(spec: RunSpec) -> dict[str, str]:
    return hash_files([file for _, source in sources_of(spec) for file in source_files(source)])


def _identity(base: str) -> str:
    """A model of the Hub by its name, a folder by what is in it."""
    return base if is_hub_id(base) else model_sha256(Path(expand(base)))
