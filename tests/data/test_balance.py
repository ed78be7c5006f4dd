"""Class balance: rare labels come more often, nothing is left out, and every count is that of the plan."""

from collections import Counter

import numpy as np
import pytest

from schemas.errors import UserError
from schemas.results.artifacts import MixtureReport, TokenLedger
from tasks.data.plan.balance import copies
from tasks.data.plan.mix import count_labels
from tasks.data.plan.plan import load_plan, plan_training
from tasks.data.prepare import tokenize
from tasks.data.split.divide import Fate, load_fates
from tasks.storage.workers import map_in_processes
from tests.corpora import prepare_rows
from tests.schemas.test_mixture import SPEC, problems
from tests.tiny_encoder import make_encoder
from tests.toy_heads import labelled_rows, toy_texts, write_labelled
from tests.training.heads import head_spec, prepare_head
from tests.training.test_labelled import documents_of, open_documents

KIND = "text_classification"
KEEP = {"gardening": 120, "sailing": 20, "烹饪": 5}


@pytest.fixture(scope="session")
def encoder(tmp_path_factory):
    return make_encoder(tmp_path_factory.mktemp("encoder") / "model", toy_texts())


def rare_spec(folder, encoder, temperature=None, replay=False, **training):
    """120, 20 and 5 rows of three labels, in two files."""
    rows, counts = [], Counter()
    for row in labelled_rows(600):
        if counts[row["label"]] < KEEP[row["label"]]:
            counts[row["label"]] += 1
            rows.append(row)
    spec = {"mixture": {"replay_ratio": 0.2 if replay else 0, "class_temperature": temperature}}
    folder.mkdir(parents=True, exist_ok=True)
    sources = []
    for number, name in enumerate(("one", "two")):
        write_labelled(folder / f"{name}.jsonl", rows[number::2])
        sources.append({"path": str(folder / f"{name}.jsonl"), "contract": "labeled_text"})
    if replay:
        write_labelled(folder / "replay.jsonl", labelled_rows(80, seed=99))
        spec["replay"] = [{"path": str(folder / "replay.jsonl"), "contract": "labeled_text"}]
    training = {"epochs": 1, "sequence_length": 48, "batch_tokens": 48, **training}  # a step of one: full
    if "steps" in training or "tokens" in training:
        training["epochs"] = None
    return head_spec(folder, KIND, encoder, domain=sources, **spec, training=training)


def times_trained(root, spec):
    """How often each domain document is trained: (source, part, start) -> times; and the label of each."""
    prepared, tokenized, inputs, dataset = open_documents(root, spec)
    pieces, _ = load_plan(inputs.plan)
    found, labels = Counter(), {}
    for piece, (_, label) in zip(pieces.tolist(), documents_of(dataset), strict=True):
        if piece[0] < len(spec.domain):
            found[piece[:3]] += 1
            labels[piece[:3]] = tokenized.labels.names[label]
    return found, labels, prepared, tokenized, inputs


def test_copies_are_in_proportion_to_the_power_of_the_counts_and_shared_evenly():
    numbers = np.repeat([7, 3, 5], [1000, 100, 10]).astype(np.int32)
    for temperature in (1.5, 2.0, 5.0, 1e9):
        found = copies(numbers, temperature, np.random.default_rng(1))
        drawn = {name: int(found[numbers == name].sum()) for name in (7, 3, 5)}
        for name, count in ((7, 1000), (3, 100), (5, 10)):
            assert drawn[name] == round(1000 * (count / 1000) ** (1 / temperature))
            assert np.ptp(found[numbers == name]) <= 1
    assert found.min() == 1
    assert drawn == {7: 1000, 3: 1000, 5: 1000}


def test_a_pass_leaves_no_document_out_and_has_the_rare_ones_more_often(tmp_path, encoder):
    spec = rare_spec(tmp_path, encoder, 4.0)
    found, labels, prepared, tokenized, _ = times_trained(tmp_path / "state", spec)
    there = Counter(labels.values())
    accepted = sum(
        int((fates == Fate.ACCEPTED).sum())
        for source in prepared.training
        for fates in load_fates(prepared.divided, source)
    )
    assert len(found) == accepted == sum(there.values())
    drawn = Counter()
    for place, times in found.items():
        drawn[labels[place]] += times
    most = there["gardening"]
    assert drawn == {label: round(most * (n / most) ** (1 / 4)) for label, n in there.items()}
    assert drawn["烹饪"] > 5 * there["烹饪"]
    shares = {s.label: (s.documents, s.trained_documents) for s in tokenized.mixture.labels}
    assert shares == {label: (there[label], drawn[label]) for label in there}


@pytest.mark.parametrize("length", [{"epochs": 1}, {"epochs": 2.5}, {"tokens": 999}, {"steps": 7}])
@pytest.mark.parametrize("replay", [False, True])
def test_ledger_and_report_are_counted_from_what_is_laid_out(tmp_path, encoder, length, replay):
    spec = rare_spec(tmp_path, encoder, 3.0, replay, **length)
    plain = rare_spec(tmp_path, encoder, None, replay, **length)
    found, labels, _, _, inputs = times_trained(tmp_path / "state", spec)
    before = prepare_head(tmp_path / "state", plain)[1].tokens
    pieces, sequences = load_plan(inputs.plan)
    ledger = TokenLedger.model_validate(inputs.plan.facts["tokens"])
    report = MixtureReport.model_validate(inputs.plan.facts["report"])
    domain = pieces["source"] < len(spec.domain)
    assert ledger.domain_trained == report.domain_tokens == count_labels(pieces[domain])
    assert ledger.replay_trained == report.replay_tokens == count_labels(pieces[~domain])
    assert (ledger.domain, ledger.replay) == (before.domain, before.replay), "what there is does not change"
    assert before.repeated == 0 < ledger.repeated
    a_pass = ledger.domain + ledger.repeated
    assert (ledger.domain_trained - ledger.domain_filled + ledger.truncated) % a_pass == 0
    assert report.domain_epochs == ledger.domain_trained / a_pass
    drawn = Counter(labels[place] for place in found.elements())
    assert {s.label: s.trained_documents for s in report.labels if s.trained_documents} == drawn
    if length == {"epochs": 1}:
        assert ledger.truncated == 0
        assert report.domain_epochs == 1
    if "epochs" in length and replay:
        assert report.achieved_ratio == pytest.approx(0.2, abs=0.02)
    if "steps" in length:
        assert len(sequences) - 1 <= 7 * report.sequences_per_step
        assert report.steps == 7


def test_a_later_pass_has_another_order_and_the_same_documents(tmp_path, encoder):
    spec = rare_spec(tmp_path, encoder, 3.0, epochs=2)
    found, *_ = times_trained(tmp_path / "state", spec)
    once, *_ = times_trained(tmp_path / "state", rare_spec(tmp_path, encoder, 3.0, epochs=1))
    assert found == {place: 2 * times for place, times in once.items()}


def test_the_plan_is_seeded_keyed_and_the_same_with_many_workers(tmp_path, encoder, workers_for_few):
    def plan(state, temperature=3.0, seed=17):
        spec = rare_spec(tmp_path, encoder, temperature, seed=seed)
        return prepare_head(tmp_path / state, spec)[2].plan

    one, again = plan("one"), plan("again")
    assert one.key == again.key
    assert load_plan(one)[0].tobytes() == load_plan(again)[0].tobytes()
    others = [plan("one", 3.1), plan("one", None), plan("one", seed=18)]
    assert len({one.key, *(other.key for other in others)}) == 4
    spec = rare_spec(tmp_path, encoder, 3.0)
    prepared = prepare_rows(tmp_path / "many", spec, map_in_processes)
    many = tokenize(tmp_path / "many", spec, prepared, encoder, map_in_processes).plan
    assert load_plan(many)[0].tobytes() == load_plan(one)[0].tobytes()
    assert many.facts["report"] == one.facts["report"]


def test_the_labels_name_the_plan_only_where_it_reads_them(tmp_path, encoder):
    root = tmp_path / "state"
    for temperature, reads in ((None, False), (3.0, True)):
        spec = rare_spec(tmp_path, encoder, temperature)
        prepared, tokenized, inputs = prepare_head(root, spec)
        steps = [tokenized.steps[source.label] for source in prepared.training]
        arguments = (root, spec, prepared.training, steps, prepared.divided, tokenized.special)
        assert plan_training(*arguments, tokenized.labels).key == inputs.plan.key
        assert (plan_training(*arguments).key == inputs.plan.key) != reads


def test_labels_that_are_equally_frequent_are_refused(tmp_path, encoder):
    def write(name, place):
        texts = [(f"{word} {place} {number}", word) for word in ("boat", "pear") for number in range(30)]
        file = write_labelled(tmp_path / name, [{"text": text, "label": label} for text, label in texts])
        return [{"path": str(file), "contract": "labeled_text"}]

    spec = head_spec(
        tmp_path, KIND, encoder,
        domain=write("even.jsonl", "here"),
        evaluation={"domain": write("scored.jsonl", "there")},
        mixture={"replay_ratio": 0, "class_temperature": 2},
    )  # fmt: skip
    with pytest.raises(UserError, match="class_temperature repeats none") as error:
        prepare_head(tmp_path / "state", spec)
    assert error.value.where == "mixture.class_temperature"
    assert "remove it" in error.value.fix


TASKS = {"kind": "multi_task", "tasks": [{"name": name, "kind": KIND} for name in ("one", "two")]}


@pytest.mark.parametrize(
    ("objective", "tasks", "why"),
    [
        ({"kind": "language_modeling"}, [None], "objective language_modeling has no labels to draw documents by; remove it"),
        ({"kind": "instruction"}, [None], "objective instruction has no labels to draw documents by; remove it"),
        ({"kind": "token_classification"}, [None], "a text with tags has many labels, not one to draw it by; remove it"),
        (TASKS, ["one", "two"], "each of several tasks has labels of its own; remove it"),
    ],
)  # fmt: skip
def test_objectives_without_one_label_for_each_document_are_refused(objective, tasks, why):
    changes = {
        "objective": objective,
        "domain": [
            {"path": "d.jsonl", "contract": "c", **({"task": task} if task else {})} for task in tasks
        ],
        "replay": [],
        "evaluation": {"domain_holdout": 0.1, "general": SPEC["evaluation"]["general"]},
    }
    if objective["kind"] == "instruction":
        changes["evaluation"]["general"] = [{"path": "g.jsonl", "contract": "c"}]
    elif objective["kind"] != "language_modeling":
        changes["evaluation"]["general"] = []
    said = problems(**changes, mixture={"replay_ratio": 0, "class_temperature": 2})
    assert f"mixture.class_temperature: {why}" in said
    assert problems(**changes, mixture={"replay_ratio": 0}) == ""


def test_a_temperature_of_1_would_do_nothing_and_is_refused():
    assert "greater than 1" in problems(mixture={"class_temperature": 1})
