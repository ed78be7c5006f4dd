"""Whole runs on prompts and responses: the comparison of runs/compare/gsm8k_qwen3.yaml in small, and on real rows."""

import json
import os

import pytest

from flows.comparing.cell import train_cell
from flows.comparing.load import load_comparison
from flows.comparing.methods import compare
from flows.models.evaluate import evaluate_model, generate_text
from flows.progress.watch import Silent
from flows.run.dry_run import make_plan
from flows.run.journey import follow
from schemas.errors import UserError, UserErrors
from schemas.results.artifacts import Ledger
from schemas.results.comparison import Comparison
from schemas.results.scores import AnswerSuite, Scores, SuiteScores
from schemas.spec.run import RunSpec
from tasks.data.plan.plan import open_sources, plan_training
from tasks.data.prepare import Tokenized, tokenize
from tasks.data.tokens.prompts import PLAIN, read_frame
from tasks.data.tokens.tokenize import tokenize_source
from tasks.data.tokens.tokenizer import special_ids
from tasks.evaluation.scoring.score_model import assemble_scores, score_model
from tasks.evaluation.suites.build import build_suites
from tasks.release.export.export import export_model
from tasks.training.inputs import TrainingInputs
from tasks.training.train import train
from tests.command_line import ROOT, rootstock
from tests.corpora import here, prepare_rows, write_rows
from tests.tiny_base import prose
from tests.toy_sums import sums, sums_spec, write_sums

COMPARISON = ROOT / "runs" / "compare" / "gsm8k_qwen3.yaml"
BASE = ROOT / "assets" / "base"


class Noting(Silent):
    """Keep what would be shown."""

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sums")
    write_sums(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "rate", "steps"),
    [
        ({"kind": "full"}, 2e-3, 40),
        ({"kind": "lora", "r": 16, "alpha": 32}, 1e-2, 40),
        ({"kind": "prompt_tuning", "virtual_tokens": 8}, 0.1, 12),
    ],
    ids=lambda value: value.get("kind") if isinstance(value, dict) else None,
)
def test_sums_are_learnt_answered_and_judged_beside_the_text_that_may_be_forgotten(
    files, tmp_path, capsys, method, rate, steps
):
    training = {"steps": steps, "learning_rate": rate}
    spec = sums_spec(files, BASE, method=method, training=training, promotion={"max_forgetting": 5.0})
    spec["name"] = f"sums-{method['kind']}"
    watch = Noting()
    outcome = follow(RunSpec.model_validate(spec), files / "state", watch, map_shards=here)
    notes = "\n".join(watch.notes)
    assert "train.jsonl: query/response (query as prompt, response as response)" in notes
    assert "test.jsonl: question/answer (question as prompt, answer as response)" in notes
    assert "template plain: '### Instruction:\\n' PROMPT" in notes
    scores = Scores.model_validate_json((outcome.folder / "scores.json").read_bytes())
    domain, text = scores.suites
    assert isinstance(domain, AnswerSuite)
    assert isinstance(text, SuiteScores)
    assert domain.answered("base") < 0.5, "the base knows nothing of the form"
    if method["kind"] != "prompt_tuning":
        assert domain.answered("candidate") > 0.9
        assert domain.exact_match("candidate") > domain.exact_match("base")
    gain, forgetting, floor = outcome.decision.rules
    assert gain.estimate == pytest.approx(domain.exact_match("candidate") - domain.exact_match("base"))
    assert "right answers on 'domain'" in gain.reason
    assert "nats per token" in forgetting.reason
    assert "what always giving one answer scores" in floor.reason
    ledger = Ledger.model_validate_json((outcome.folder / "ledger.json").read_bytes()).require_balance()
    assert ledger.tokens.domain_trained > 0
    page = (outcome.folder / "report.html").read_text(encoding="utf-8")
    card = (outcome.folder / "model" / "README.md").read_text(encoding="utf-8")
    for told in (page, card):
        assert "exact match" in told
        assert "nats per token" in told
    assert read_frame(outcome.folder / "model") == PLAIN
    export_model(outcome.folder / "model", tmp_path / "out", merge=method["kind"] == "lora")
    assert read_frame(tmp_path / "out") == PLAIN
    rows = evaluate_model(
        RunSpec.model_validate(spec), files / "state", str(outcome.folder / "model"), Silent()
    )
    assert rows[0]["exact match"] == domain.exact_match("candidate")
    assert rows[0].keys() >= {"floor", "answered"}
    assert rows[1]["unigram floor"] == text.floor
    if method["kind"] == "full":
        generate_text(str(outcome.folder / "model"), " What is 1 plus 2?\n", 24, 0.0, 1.0, 0)
        assert "####" in capsys.readouterr().out, "asked as it was trained, it answers in the form"
    assert not follow(RunSpec.model_validate(spec), files / "state", Silent(), map_shards=here).fresh


@pytest.mark.slow
def test_a_plan_tells_layouts_and_a_comparison_ranks_by_right_answers(files, tmp_path):
    values = sums_spec(files, BASE, name="ranked", training={"steps": 3})
    spec, state = RunSpec.model_validate(values), files / "state"
    facts = make_plan(spec, state, Noting())
    assert facts["template"] == "plain"
    assert facts["prompts without room"] == 0
    layouts = [value for key, value in facts.items() if key.startswith("layout of")]
    assert any("query/response" in value for value in layouts)
    comparison = Comparison.model_validate(
        {
            "name": "ranked",
            "spec": "sums.yaml",
            "methods": [{"kind": "full"}, {"kind": "prompt_tuning", "virtual_tokens": 4}],
            "learning_rates": [1e-3],
            "seeds": [1],
        }
    )

    def train_all(jobs, state, _):
        return [train_cell(spec_of_cell, state) for _, spec_of_cell in jobs]

    folder = compare(comparison, spec, state, train_all)
    rows = json.loads((folder / "comparison.json").read_bytes())["rows"]
    assert {row["unit"] for row in rows} == {"exact match"}
    assert all(row["refused"] is None and "heldout" in row["forgetting"] for row in rows)


def test_the_comparison_names_every_file_that_is_missing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").symlink_to(ROOT / "runs")
    with pytest.raises(UserErrors) as caught:
        load_comparison(COMPARISON)
    told = [error.what for error in caught.value.errors]
    assert told == [
        "domain.0.path matches no file: data/metamath/train.jsonl",
        "evaluation.domain.0.path matches no file: data/gsm8k/test.jsonl",
        "evaluation.general.0.path matches no file: data/wikitext/test.txt",
    ]
    assert all(error.where.startswith("runs/gsm8k_qwen3.yaml:") for error in caught.value.errors)
    planned = rootstock("plan", "runs/gsm8k_qwen3.yaml", cwd=tmp_path, cold=True)
    assert planned.code == 2
    assert [what for what, _, _ in planned.errors] == told
    assert not planned.heavy


def test_the_comparison_loads_once_its_files_are_there_and_every_method_goes_with_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").symlink_to(ROOT / "runs")
    for row in sums()[:5]:
        write_rows(
            tmp_path / "data/metamath/train.jsonl", [{"query": row["question"], "response": row["answer"]}]
        )
        write_rows(tmp_path / "data/gsm8k/test.jsonl", [row])
    (tmp_path / "data/wikitext").mkdir()
    (tmp_path / "data/wikitext/test.txt").write_text("a\n")
    comparison, spec = load_comparison(COMPARISON)
    assert spec.objective.kind == "instruction"
    assert spec.objective.metric == "exact_match"
    assert {"full", "lora", "prompt_tuning"} <= {method.kind for method in comparison.methods}


def test_a_base_without_a_chat_template_is_refused_where_one_is_asked_for(files, tmp_path):
    spec = RunSpec.model_validate(sums_spec(files, BASE, objective={"template": "chat"}))
    prepared = prepare_rows(tmp_path / "state", spec)
    with pytest.raises(UserError, match="the base's tokenizer has no chat template"):
        tokenize(tmp_path / "state", spec, prepared, BASE, here)


@pytest.mark.parametrize(
    ("file", "metric"),
    [
        ("instruction_en/gsm8k_test.jsonl", "exact_match"),
        ("instruction_zh/alpaca_zh_demo_1-650.json", "loss"),
    ],
)
def test_real_rows_are_learnt_from_and_scored(tmp_path, file, metric):
    """The contracts are kept by these files too: tests/data_contracts/test_head_contracts.py."""
    root = os.environ.get("ROOTSTOCK_DATA")
    if not root:
        pytest.skip("ROOTSTOCK_DATA is not set: the real rows are not on this machine")
    write_rows(tmp_path / "general.jsonl", [line[:200] for line in prose("zh_*")[:10]])
    objective = {"kind": "instruction", "metric": metric}
    spec = RunSpec.model_validate(
        {
            "name": "real",
            "base": str(BASE),
            "objective": {**objective, **({"max_new_tokens": 8} if metric == "exact_match" else {})},
            "domain": [{"path": f"{root}/data/{file}", "contract": "instruction"}],
            "mixture": {"replay_ratio": 0},
            "training": {"steps": 2, "sequence_length": 384, "batch_tokens": 768, "learning_rate": 1e-3},
            "evaluation": {
                "domain_holdout": 0.1,
                "general": [
                    {"path": str(tmp_path / "general.jsonl"), "contract": "general_text", "record": "text"}
                ],
                "max_tokens": 2500,
            },
        }
    )
    state = tmp_path / "state"
    prepared, special = prepare_rows(state, spec), special_ids(BASE)
    ledger = prepared.ledger.require_balance().total
    assert ledger.quarantined == 0
    assert ledger.held_out > 30
    steps = {
        s.label: tokenize_source(state, s, BASE, here, spec.record_of(s.source), PLAIN)
        for s in prepared.sources
    }
    training = [steps[s.label] for s in prepared.training]
    plan = plan_training(state, spec, prepared.training, training, prepared.divided, special)
    tokenized = Tokenized(special, steps, plan, None, PLAIN, metric == "exact_match")
    tokens = tokenized.tokens
    assert tokens.domain_trained == tokenized.mixture.domain_tokens
    suites = build_suites(spec, prepared, tokenized)
    sources = open_sources(prepared.training, training, special)
    inputs = TrainingInputs(BASE, str(BASE), plan, sources, special, frame=PLAIN)
    trained = train(state, spec, inputs)
    before = score_model(state, spec, suites, BASE)
    after = score_model(state, spec, suites, trained.folder / "model")
    scores = assemble_scores(suites, {"base": before, "candidate": after}, special.vocab_size)
    domain = scores.suites[0]
    if isinstance(domain, AnswerSuite):
        assert all(item.right.lstrip("-").replace(".", "").isdigit() for item in domain.items)
    else:
        assert scores.value(domain, "candidate") < scores.value(domain, "base")


def test_a_response_without_an_answer_stops_the_run_before_training(tmp_path):
    write_rows(tmp_path / "d.jsonl", [{"prompt": f"Why {n}?", "response": "Because."} for n in range(60)])
    write_rows(tmp_path / "general.jsonl", ["text"])
    spec = RunSpec.model_validate(
        {
            "name": "why",
            "base": str(BASE),
            "objective": {"kind": "instruction", "metric": "exact_match"},
            "domain": [{"path": str(tmp_path / "d.jsonl"), "contract": "instruction"}],
            "mixture": {"replay_ratio": 0},
            "training": {"steps": 1, "sequence_length": 64, "batch_tokens": 64},
            "evaluation": {
                "domain_holdout": 0.2,
                "general": [
                    {"path": str(tmp_path / "general.jsonl"), "contract": "general_text", "record": "text"}
                ],
            },
        }
    )
    prepared, special = prepare_rows(tmp_path / "s", spec), special_ids(BASE)
    steps = {
        s.label: tokenize_source(tmp_path / "s", s, BASE, here, spec.record_of(s.source), PLAIN)
        for s in prepared.sources
    }
    with pytest.raises(UserError, match="have no final answer"):
        build_suites(spec, prepared, Tokenized(special, steps, prepared.divided, None, PLAIN, True))
