"""What people write in a specification, and what they are told."""

import random
from pathlib import Path

import pytest

from schemas.errors import UserErrors
from schemas.reading.load import load_spec
from schemas.spec.run import RunSpec

CONTRACTS = ("domain_text", "general_text")
GOOD = """\
name: medical
base: model
domain:
  - {path: data/domain.txt, contract: domain_text}
replay:
  - {path: data/general.txt, contract: general_text}
mixture: {replay_ratio: 0.25}
method: {kind: lora, r: 16}
training:
  steps: 3
  learning_rate: 2e-4
evaluation:
  domain_holdout: 0.1
  general:
    - {path: data/general.txt, contract: general_text}
"""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which GOOD has no mistake."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/domain.txt").write_text("a line\n")
    (tmp_path / "data/general.txt").write_text("another line\n")
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(text: str | bytes, *overrides: str) -> RunSpec:
    Path("spec.yaml").write_bytes(text.encode() if isinstance(text, str) else text)
    return load_spec(Path("spec.yaml"), overrides, CONTRACTS)


def refused(text: str | bytes, *overrides: str) -> list[tuple[str, str, str]]:
    with pytest.raises(UserErrors) as caught:
        load(text, *overrides)
    return [(error.what, error.where.removeprefix("spec.yaml:"), error.fix) for error in caught.value.errors]


def edited(old: str, new: str) -> str:
    assert GOOD.count(old) == 1, old
    return GOOD.replace(old, new)


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_and_byte_order_marks_of_windows_change_nothing(newline: str, mark: str) -> None:
    assert load(mark + GOOD.replace("\n", newline)) == load(GOOD)
    text = mark + edited("0.25", "2.5").replace("\n", newline)
    assert [where for _, where, _ in refused(text)] == ["7"]


@pytest.mark.parametrize("written", ["2e-4", "2.0e-4", "0.0002", "2E-4", "+2e-04"])
def test_a_number_may_be_written_as_people_write_it(written: str) -> None:
    assert load(edited("2e-4", written)).training.learning_rate == 2e-4


def test_an_anchor_repeats_a_value() -> None:
    text = edited(
        "  - {path: data/general.txt, contract: general_text}\nmix",
        "  - &g {path: data/general.txt, contract: general_text}\nmix",
    )
    spec = load(text.replace("    - {path: data/general.txt, contract: general_text}", "    - *g"))
    assert spec.evaluation.general == spec.replay


def test_what_looks_like_a_date_is_text() -> None:
    assert load(edited("medical", "2024-01-01")).name == "2024-01-01"


@pytest.mark.parametrize("text", ["", "\n", "# only a comment\n", "---\n"])
def test_an_empty_file_is_told_how_to_begin(text: str) -> None:
    assert refused(text) == [("the file is empty", "1", "start with `name: ...`, or copy one from runs/")]


@pytest.mark.parametrize(
    ("ratios", "what"),
    [("[0, 0.1, 0.2]", "mixture.proxies.ratios has 3 entries; at least 4 are needed"), ("[]", "mixture.proxies.ratios is empty")],
)  # fmt: skip
def test_a_list_that_is_too_short_is_not_called_empty(ratios: str, what: str) -> None:
    budget = f"mixture={{forgetting_budget: 0.05, proxies: {{ratios: {ratios}}}}}"
    ((told, where, fix),) = refused(GOOD, budget)
    assert told == what
    assert where == f"--set {budget}"
    assert fix.endswith("Replay ratios that are always tried, rising.")


@pytest.mark.parametrize("text", ["- a\n- b\n", "hello\n", "5\n"])
def test_what_is_no_mapping_is_told_how_to_begin(text: str) -> None:
    assert refused(text) == [
        ("a specification is a mapping of keys", "1", "start with `name: ...`, or copy one from runs/")
    ]


MAPPING = "must be a mapping of keys, not"
BEGINNERS = {
    "method as text": ("{kind: lora, r: 16}", "lora", f"method {MAPPING} the text 'lora'", "8", "write `method: {kind: lora}`; known: full, lora"),
    "method as a list": ("{kind: lora, r: 16}", "[lora]", f"method {MAPPING} a list", "8", "write `method: {kind: full}`; known: full, lora"),
    "method without kind": ("{kind: lora, r: 16}", "{r: 16}", "method.kind is missing", "8", "add `kind: full`; known: full, lora"),
    "a neighbour's key": ("r: 16", "rank: 16", "method.rank is not a setting of 'lora'", "8", "write r; known: alpha, dropout, init, kind, learning_rate_ratio, r, rank_stabilized, target_modules, weight_decomposed"),
    "a neighbour's key in a remedy": ("name: medical", "name: medical\nremedies:\n  - {kind: ewc, lambda: 3}", "remedies.0.lambda is not a setting of 'ewc'", "3", "known: gamma, general_tokens, kind, strength"),
    "a remedy as text": ("name: medical", "name: medical\nremedies: [ema]", f"remedies.0 {MAPPING} the text 'ema'", "2", "write `- {kind: ema}`; known: ewc, "),
    "an unknown remedy": ("name: medical", "name: medical\nremedies: [{kind: emma}]", "remedies.0.kind: there is no 'emma'", "2", "did you mean ema? known: ewc, "),
    "a remedy out of its limits": ("name: medical", "name: medical\nremedies: [{kind: ema, decay: 2}]", "remedies.0.decay is 2; it must be below 1", "2", "write a number below 1"),
    "a remedy without its text": ("name: medical", "name: medical\nremedies: [{kind: weight_averaging, alpha: 1, points: 3}]", "remedies.0: alpha: is given, so points would do nothing", "2", "remove one of them"),
    "percent": ("0.25", "25%", "mixture.replay_ratio must be a number, not the text '25%'", "7", "write 0.25"),
    "quoted number": ("steps: 3", 'steps: "3"', "training.steps must be a whole number, not the text '3'", "10", "write 3 without quotes"),
    "true for a number": ("steps: 3", "steps: true", "training.steps must be a whole number, not true", "10", "write a whole number"),
    "half a step": ("steps: 3", "steps: 3.5", "training.steps must be a whole number, not 3.5", "10", "write a whole number"),
    "no value": ("2e-4", "", "training.learning_rate has no value", "11", "write a value after `learning_rate:`, or remove the key"),
    "empty section": ("{replay_ratio: 0.25}", "", "mixture has no value", "7", "write a value after `mixture:`, or remove the key; known keys: class_temperature, forgetting_budget, importance, proxies, replay_ratio, temperature"),
    "not a number": ("2e-4", ".nan", "training.learning_rate is nan; it must be finite", "11", "write a finite number"),
    "infinite": ("2e-4", ".inf", "training.learning_rate is inf; it must be finite", "11", "write a finite number"),
    "source as text": ("{path: data/domain.txt, contract: domain_text}", "data/domain.txt", f"domain.0 {MAPPING} the text 'data/domain.txt'", "4", "write each as `- {path: data/domain.txt, contract: NAME}`"),
    "sources as text": ("domain:\n  - {path: data/domain.txt, contract: domain_text}", "domain: data/domain.txt", "domain must be a list, not the text 'data/domain.txt'", "3", "write each as `- {path: data/domain.txt, contract: NAME}`"),
    "sources as a mapping": ("  - {path: data/domain.txt, contract: domain_text}", "  path: data/domain.txt", "domain must be a list, not a mapping", "3", "write each as `- {path: FILE, contract: NAME}`"),
    "a folder": ("data/domain.txt", "data", "domain.0.path is a folder: data", "4", "name its files, such as data/*.jsonl"),
    "wrong section": ("name: medical", "name: medical\nlearning_rate: 0.1", "learning_rate is not a key of the specification", "2", "learning_rate belongs to training; known: base, base_from, domain, evaluation, increments, method, mixture, name, objective, promotion, remedies, replay, training"),
    "a neighbour's key in the wrong section": ("name: medical", "name: medical\nnum_epochs: 3", "num_epochs is not a key of the specification", "2", "write epochs in training; known: base, base_from, domain, evaluation, increments, method, mixture, name, objective, promotion, remedies, replay, training"),
    "Chinese name": ("medical", "医学", "name cannot be the text '医学'", "1", "Name in the registry and prefix of run names: lower case, digits, `-` and `_`."),
    "Chinese key": ("name: medical", "name: medical\n学习率: 0.1", "学习率 is not a key of the specification", "2", "known: base, base_from, domain, evaluation, increments, method, mixture, name, objective, promotion, remedies, replay, training"),
    "two lengths": ("steps: 3", "steps: 3\n  epochs: 2", "training: the length is given 2 times (epochs, steps)", "9", "keep exactly one of tokens, epochs, steps (on the command line: --set training.KEY=null removes one)"),
    "part of a sequence": ("steps: 3", "steps: 3\n  batch_tokens: 1500", "training: batch_tokens (1500) must be a whole number of sequences of sequence_length (1024)", "9", "write batch_tokens: 1024"),
    "a number as a base": ("base: model", "base: 5", "base must be text, not 5", "2", "write text: Model to start from: a folder, a Hub id, or `{from_scratch: {...}}`."),
    "a folder that is no model": ("base: model", "base: data", "base: data is not a model: it has no config.json", "2", "name a folder that holds a transformers model (config.json, *.safetensors)"),
    "a base that is nowhere": ("base: model", "base: data/qwen", "base: there is no folder data/qwen", "2", "name a folder that holds a transformers model (config.json, *.safetensors), or a Hub id such as Qwen/Qwen3-0.6B"),
    "a contract file that is nowhere": ("domain_text", "c.odcs.yaml", "there is no contract file c.odcs.yaml", "4", "check the path (read as "),
    "a python tag": ("name: medical", "name: !!python/object:os.system ls", "the tag !!python/object:os.system is not allowed", "1", "write plain values only, or quote the text"),
    "a python tag on a mapping": ("{replay_ratio: 0.25}", "!!python/object/apply:os.system {replay_ratio: 0.25}", "the tag !!python/object/apply:os.system is not allowed", "7", "write plain values only"),
    "a tag of one's own": ("name: medical", "name: !env HOME", "the tag !env is not allowed", "1", "write plain values only, or quote the text"),
    "binary": ("name: medical", "name: !!binary x", "the tag !!binary is not allowed", "1", "write plain values only, or quote the text"),
    "a value in itself": ("name: medical", "name: &a [*a]", "this value contains itself", "1", "remove the alias (*name) inside it"),
    "an alias of nothing": ("name: medical", "name: *star", "not valid YAML: found undefined alias 'star'", "1", "quote the value if it begins with *, or define the anchor (&name) first"),
    "a template": ("name: medical", "name: {{ name }}", "a key must be plain text", "1", "quote a value that begins with { or [; write `key: value`"),
    "a tab": ("  steps: 3", "\tsteps: 3", "not valid YAML: a tab stands where only spaces may", "10", "indent with spaces"),
    "an open quote": ("name: medical", 'name: "medical', "not valid YAML: a quote opened here is not closed", "1", "close the quote on this line"),
    "an open bracket": ("{replay_ratio: 0.25}", "{replay_ratio: 0.25", "not valid YAML: expected ',' or '}', but got ':'; the bracket opened on line 7 is not closed", "8", "check indentation, colons and quotes on this line and the one before"),
    "a colon in a value": ("name: medical", "name: medical: text", "not valid YAML: mapping values are not allowed here", "1", "check indentation, colons and quotes on this line and the one before"),
    "a tag without a value": ("name: medical", "name: !!float", "this is not a value of type float", "1", "quote it if it is text"),
    "a tag of another shape": ("{replay_ratio: 0.25}", "!!seq {replay_ratio: 0.25}", "the tag !!seq is not allowed", "7", "write plain values only"),
    "a home of nobody": ("base: model", "base: ~nobody-here/model", "base: there is no folder ~nobody-here/model", "2", "name a folder"),
    "two documents": ("evaluation:", "---\nevaluation:", "not valid YAML: a second document begins here", "12", "remove this `---`: one file is one document"),
    "no blank after a colon": ("  steps: 3", "  steps:3", "not valid YAML: steps:3 is one text", "10", "write `steps: 3`, with a blank after the colon"),
    "no blank after the first colon": ("name: medical", "name:medical", "not valid YAML: name:medical is one text", "1", "write `name: medical`, with a blank after the colon"),
    "a control character": ("medical", "med\x01ical", "not a text file: it holds the character U+0001", "1", "save it as plain UTF-8 text"),
    "half a surrogate": ("medical", '"\\ud800"', "half of a surrogate pair is no text", "1", "write the character itself"),
    "a merge key": ("{kind: lora, r: 16}", "{<<: {kind: lora}, r: 16}", "the merge key << is not read here", "8", "repeat the keys, or alias a whole value"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", BEGINNERS)
def test_a_beginner_is_told_what_where_and_how(mistake: str) -> None:
    old, new, what, line, fix = BEGINNERS[mistake]
    told = {error[0]: error for error in refused(edited(old, new))}
    assert what in told, list(told)
    assert told[what][1] == line
    assert told[what][2].startswith(fix)


def test_nesting_does_not_overflow_the_stack() -> None:
    for text in ("a: " + "[" * 100_000, "a: " + "[" * 5000 + "]" * 5000, "a: " + "{a: " * 300 + "}" * 300):
        [(what, where, _)] = refused(GOOD + text)
        assert (what, where) == ("nested too deeply", "16")


def test_aliases_of_aliases_do_not_fill_the_memory() -> None:
    laughs = "".join(f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 10)}]\n" for i in range(1, 9))
    assert ("more than 100,000 values", "write fewer aliases (*name)") in {
        (what, fix) for what, _, fix in refused("l0: &l0 [x]\n" + laughs)
    }


def test_sources_are_checked_even_where_other_keys_are_wrong() -> None:
    text = (
        edited("data/domain.txt", "nosuch")
        .replace("steps: 3", "steps: x")
        .replace("base: model", "base: nosuch")
    )
    assert [where for _, where, _ in refused(text)] == ["2", "4", "10"]


def test_a_follow_up_of_a_reading_mistake_is_not_told() -> None:
    assert len(refused(edited("medical", "!env HOME"))) == 1


OVERRIDES = {
    "no value": ("mixture.replay_ratio", "an override needs the form key.path=value", "write for example --set mixture.replay_ratio=0.1"),
    "no key": ("=3", "an override needs the form key.path=value", "write for example --set mixture.replay_ratio=0.1"),
    "two dots": ("a..b=3", "an override needs the form key.path=value", "write for example --set mixture.replay_ratio=0.1"),
    "unknown key": ("mixture.ratio=1", "mixture.ratio is not a key of mixture", "did you mean replay_ratio? known: class_temperature, forgetting_budget, importance, proxies, replay_ratio, temperature"),
    "out of range": ("mixture.replay_ratio=2", "mixture.replay_ratio is 2; it must be below 1", "write a number below 1 (2 % is 0.02)"),
    "not YAML": ("mixture=[", "not valid YAML: expected the node content, but found '<stream end>'", "check indentation, colons and quotes"),
    "not in the list": ("domain.3.path=x", "domain.3 does not exist", "the list has the entries 0 to 0"),
    "no number in a list": ("domain.path=x", "domain.path does not exist", "the list has the entries 0 to 0"),
    "a text as a mapping": ("name.x=1", "name must be text, not a mapping", "write text: Name in the registry and prefix of run names: lower case, digits, `-` and `_`."),
    "a missing file": ("domain.0.path=nosuch", "domain.0.path matches no file: nosuch", "check the path (read as "),
    "nothing": ("name=", "name has no value", "write a value after `name:`, or remove the key"),
    "a tag": ("name=!!python/object:x y", "the tag !!python/object:x is not allowed", "write plain values only, or quote the text"),
    "a budget in percent, and no ratio": ("mixture={forgetting_budget: 5%}", "mixture.forgetting_budget must be a number, not the text '5%'", "write 0.05"),
    "a key whose description has several lines": ("method={kind: adapter_fusion}", "method.adapters is missing", "add `adapters: ...`  (Folders of runs (or of their models) with method adapter_pfeiffer on the same base; FOLDER#TASK names one of a run that trained an adapter per task.)"),
    "no blank after a colon": ("increments={remembered:0}", "increments.remembered:0 is not a key of increments", "write `remembered: 0`, with a blank after the colon; known: max_repetitions"),
    "no blank after kind:": ("remedies=[{kind:ewc}]", "remedies.0.kind is missing", "write `kind: ewc`, with a blank after the colon; known: ewc, "),
    "no blank, as text": ("remedies=[kind:ewc]", "remedies.0 must be a mapping of keys, not the text 'kind:ewc'", "write `kind: ewc`, with a blank after the colon; known: ewc, "),
    "no blank in a section": ("mixture=replay_ratio:0.1", "mixture must be a mapping of keys, not the text 'replay_ratio:0.1'", "write `replay_ratio: 0.1`, with a blank after the colon"),
    "a key that is everywhere": ("kind=lora", "kind is not a key of the specification", "known: base, "),
    "nothing for a list": ("replay=null", "replay has no value", "write `replay: []` for none, or remove the key"),
    "nothing for a list that is needed": ("domain=null", "domain has no value", "write a value after `domain:`, or remove the key"),
    "no general suite": ("evaluation.general=[]", "evaluation.general: at least one general suite is needed to measure forgetting", "name text that the base is good at"),
    "a repeated key": ("mixture={replay_ratio: 0, replay_ratio: 1}", "replay_ratio is given twice", "keep one"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", OVERRIDES)
def test_a_mistake_in_an_override_is_placed_on_the_command_line(mistake: str) -> None:
    text, what, fix = OVERRIDES[mistake]
    [(told, where, remedy)] = refused(GOOD, text)
    assert (told, where) == (what, f"--set {text}")
    assert remedy.startswith(fix)


def test_an_override_of_a_kind_drops_the_settings_of_the_old_kind() -> None:
    assert load(GOOD, "method.kind=full").method.kind == "full"


def test_an_override_by_null_removes_a_value() -> None:
    training = load(GOOD, "training.steps=null", "training.epochs=2").training
    assert (training.steps, training.epochs) == (None, 2)


def test_a_hub_id_is_not_looked_for_below_a_folder_that_is_here() -> None:
    assert load(edited("base: model", "base: Qwen/Qwen3-0.6B")).base == "Qwen/Qwen3-0.6B"
    assert refused(edited("base: model", "base: data/Qwen3-0.6B"))


def test_no_garbled_file_ends_in_anything_but_an_error_of_ours() -> None:
    generator = random.Random(4)
    pieces = ["{", "}", "[", "]", ":", "- ", "\n", "\t", "&a ", "*a", "!!x ", "|", ">", "'", '"', "\\", "%", "@", "?", "\x00", "é", "\ufeff", "---\n", "1e999", "<<: ", "  "]  # fmt: skip
    outcomes = set()
    for _ in range(400):
        text = list(GOOD)
        for _ in range(generator.randint(1, 4)):
            place = generator.randrange(len(text))
            text[place : place + generator.randint(0, 3)] = [generator.choice(pieces)]
        try:
            load("".join(text))
            outcomes.add("read")
        except UserErrors as error:
            told = error.errors
            outcomes.add("refused" if all(one.what and one.where and one.fix for one in told) else "silent")
    assert outcomes == {"read", "refused"}


@pytest.mark.parametrize(
    ("old", "line"), [("data/domain.txt", "4"), ("domain_text", "4"), ("base: model", "2")]
)
def test_a_name_too_long_for_any_file_system_is_told(old: str, line: str) -> None:
    long = "base: " + "y" * 5000 if old == "base: model" else "z" * 5000 + ".yaml"
    [(what, where, _)] = refused(edited(old, long))
    assert what.endswith("File name too long")
    assert where == line
