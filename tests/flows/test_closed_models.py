"""A run's model is a closed set of files: changed, added to or taken from, no command uses it."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.reading.load import load_spec
from tasks.release.run.run_folder import RunFolder
from tests.command_line import ROOT, rootstock
from tests.damages import Damage, edit, gone, number_in, text
from tests.in_process import require_refusal, rootstock_here
from tests.tiny import put_on_base, write_tiny


def flipped(name: str) -> Damage:
    """One bit of a file; its size and time stay."""

    def damage(folder: Path) -> None:
        file = folder / name
        told, content = file.stat(), bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
        os.utime(file, ns=(told.st_atime_ns, told.st_mtime_ns))

    return damage


CHANGES: dict[str, Damage] = {
    "weights": flipped("model.safetensors"),
    "configuration": flipped("config.json"),
    "tokenizer": flipped("tokenizer.json"),
    "generation": edit("generation_config.json", repetition_penalty=9.0),
    "generation gone": gone("generation_config.json"),
    "tokens added": text("added_tokens.json", '{"evil": 7}'),
    "special tokens added": text("special_tokens_map.json", '{"eos_token": "a"}'),
    "template added": text("chat_template.jinja", "{{ messages }}"),
    "module added": text("modeling_evil.py", "raise SystemExit('ran')"),
    "pickle added": text("pytorch_model.bin", b"cos\nsystem\n(S'exit 1'\ntR."),
    "folder added": text("custom_generate/generate.py", "raise SystemExit('ran')"),
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a specification and a state in which its run is champion."""
    folder = write_tiny(tmp_path_factory.mktemp("closed"))
    done = rootstock_here("run", str(folder / "tiny.yaml"), "--no-prefect", "--state", str(folder / "state"))
    assert done.code == 0, done.out + done.err
    return folder


@pytest.fixture
def model(tiny: Path) -> Iterator[Path]:
    """The champion's folder; as it was afterwards."""
    (model,) = (tiny / "state" / "runs").glob("*/model")
    kept = tiny / "kept"
    shutil.copytree(model, kept)
    yield model
    shutil.rmtree(model)
    kept.rename(model)


@pytest.mark.parametrize("what", CHANGES)
def test_no_command_uses_a_model_that_is_not_the_one_judged(
    what: str, tiny: Path, model: Path, tmp_path: Path
) -> None:
    CHANGES[what](model)
    run, state, spec = model.parent.name, ("--state", str(tiny / "state")), str(tiny / "tiny.yaml")
    for arguments in (
        ("generate", run, "warm", "--max-new-tokens", "2"),
        ("generate", "tiny", "warm", "--max-new-tokens", "2"),
        ("generate", str(model), "warm", "--max-new-tokens", "2"),
        ("evaluate", run, spec),
        ("export", run, "--to", str(tmp_path / "out")),
        ("combine", run, str(tiny / "kept"), "--to", str(tmp_path / "out")),
        ("promote", run),
    ):
        told = require_refusal(rootstock_here(*arguments, *state))
        assert run in told
    assert not (tmp_path / "out").exists()


def test_a_changed_champion_is_neither_a_yardstick_nor_a_base(tiny: Path, model: Path) -> None:
    CHANGES["weights"](model)
    state = ("--no-prefect", "--state", str(tiny / "state"))
    told = require_refusal(
        rootstock_here("run", str(tiny / "tiny.yaml"), "--set", "training.steps=13", *state)
    )
    assert model.parent.name in told
    again = put_on_base(tiny, "again.yaml", "base_from: champion")
    assert model.parent.name in require_refusal(rootstock_here("run", str(again), *state))


def test_an_index_turned_to_other_weights_is_another_base(tiny: Path, tmp_path: Path) -> None:
    (model,) = (tiny / "state" / "runs").glob("*/model")
    base = tmp_path / "base"
    shutil.copytree(model, base)
    (base / "model.safetensors").rename(base / "a.safetensors")
    shutil.copy(base / "a.safetensors", base / "b.safetensors")
    number_in("b.safetensors", "embed_tokens", 9.0)(base)
    runs = []
    for shard in ("a", "b", "a"):
        named = {"metadata": {}, "weight_map": {"any": f"{shard}.safetensors"}}
        (base / "model.safetensors.index.json").write_text(json.dumps(named))
        spec = load_spec(put_on_base(tiny, "based.yaml", f"base: {base}"))
        runs.append(RunFolder.open(tmp_path / "state", spec).id)
    assert runs[0] == runs[2] != runs[1]
    number_in("b.safetensors", "embed_tokens", 1.0)(base)
    assert RunFolder.open(tmp_path / "state", spec).id == runs[0], "what is not read does not matter"


@pytest.mark.parametrize(("to", "code"), [("file/out", 2), ("file", 2), ("link", 2), ("x" * 300, 74)])
def test_a_place_that_cannot_be_written_is_told_with_the_option_that_chose_it(
    tiny: Path, tmp_path: Path, to: str, code: int
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("nowhere")
    said = rootstock_here("export", "tiny", "--to", str(tmp_path / to), "--state", str(tiny / "state"))
    assert said.code == code, said.err
    assert said.err.splitlines()[2].startswith("  fix: name a ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link"]


@pytest.mark.slow
def test_no_package_that_fetches_kernels_is_imported(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "__init__.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w')\n")
    env = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = rootstock(
        "evaluate", "tiny", str(tiny / "tiny.yaml"), "--state", str(tiny / "state"), cwd=tmp_path, env=env
    )
    assert done.code == 0, done.err
    assert not (tmp_path / "imported").exists()


def test_the_card_is_for_people_and_may_be_edited(tiny: Path, model: Path, tmp_path: Path) -> None:
    (model / "README.md").write_text("my notes")
    state = ("--state", str(tiny / "state"))
    assert rootstock_here("generate", "tiny", "warm", "--max-new-tokens", "2", *state).code == 0
    assert rootstock_here("export", "tiny", "--to", str(tmp_path / "out"), *state).code == 0
    assert (tmp_path / "out" / "README.md").read_text() == "my notes"
    assert {file.stat().st_mode & 0o777 for file in (tmp_path / "out").iterdir()} == {0o644}
    assert {file.stat().st_mode & 0o777 for file in model.iterdir()} == {0o644}
