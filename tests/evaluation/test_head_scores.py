"""Answers are scored by the field's own definitions, whatever the batch, and set beside a yardstick."""

import random

import numpy as np
import pytest

from schemas.results.scores import LabelScore, LabelSuite, Scores
from tasks.data.labels.labels import Labels
from tasks.data.tokens.tokenizer import special_ids
from tasks.evaluation.scoring.head_scores import assemble_head_scores, count_spans
from tasks.evaluation.scoring.predictions import answer, load_answers
from tasks.evaluation.scoring.score_model import score_model
from tasks.evaluation.suites.build import build_suites
from tasks.evaluation.suites.items import Item
from tasks.training.models.heads import Head
from tasks.training.models.load import load_with_head
from tests.tiny_encoder import make_encoder
from tests.toy_heads import toy_texts
from tests.training.heads import head_spec, prepare_head

TEXT, WORD = "text_classification", "token_classification"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return make_encoder(tmp_path_factory.mktemp("encoder") / "model", toy_texts())


def reference_chunks(tags: list[str]) -> list[tuple[str, int, int]]:
    """seqeval's get_entities for IOB2 in strict mode, written from its definition: B- begins, I- of the same type goes on."""
    chunks = []
    at = 0
    while at < len(tags):
        if tags[at].startswith("B-"):
            kind, end = tags[at][2:], at + 1
            while end < len(tags) and tags[end] == f"I-{kind}":
                end += 1
            chunks.append((kind, at, end))
            at = end
        else:
            at += 1
    return chunks


@pytest.mark.parametrize("seed", range(20))
def test_spans_are_counted_as_seqeval_does(seed) -> None:
    choose = random.Random(seed)

    def iob2(length: int) -> list[str]:
        tags: list[str] = []
        while len(tags) < length:
            kind = choose.choice(["PER", "LOC", None])
            tags += ["O"] if kind is None else [f"B-{kind}", *[f"I-{kind}"] * choose.randint(0, 2)]
        return tags[:length]

    gold, found = iob2(30), iob2(30)
    wanted, given = set(reference_chunks(gold)), set(reference_chunks(found))
    right = len(wanted & given)
    assert count_spans(gold, found) == (right, len(given) - right, len(wanted) - right)


def test_a_span_counts_only_whole_and_with_its_type() -> None:
    gold = ["B-PER", "I-PER", "O", "B-LOC"]
    assert count_spans(gold, gold) == (2, 0, 0)
    assert count_spans(gold, ["B-PER", "O", "O", "B-LOC"]) == (1, 1, 1)
    assert count_spans(gold, ["B-LOC", "I-LOC", "O", "B-LOC"]) == (1, 1, 1)
    assert count_spans(gold, ["O"] * 4) == (0, 0, 2)
    assert count_spans(["O"], ["O"]) == (0, 0, 0)


def label_suite(pairs: list[tuple[str, str]]) -> LabelSuite:
    items = tuple(
        LabelScore(id=str(n), group=str(n), gold=gold, predicted={"candidate": found})
        for n, (gold, found) in enumerate(pairs)
    )
    return LabelSuite(name="s", kind="domain", floor=0, items=items)


def test_accuracy_and_f1_of_labels() -> None:
    suite = label_suite([("a", "a"), ("a", "b"), ("b", "b"), ("b", "b"), ("c", "a"), ("c", "never seen")])
    assert suite.accuracy("candidate") == 3 / 6
    assert suite.label_f1("candidate") == {"a": (2, 0.5), "b": (2, 0.8), "c": (2, 0.0)}
    assert suite.macro_f1("candidate") == pytest.approx((0.5 + 0.8) / 3)


def test_scores_survive_the_file() -> None:
    scores = Scores(unit="accuracy", yardstick="majority class", suites=(label_suite([("a", "b")]),))
    assert Scores.model_validate_json(scores.model_dump_json()) == scores
    assert isinstance(Scores.model_validate_json(scores.model_dump_json()).suites[0], LabelSuite)


def scored(tmp_path, kind, folder, **keys):
    spec = head_spec(tmp_path, kind, folder, **keys)
    prepared, tokenized, inputs = prepare_head(tmp_path / "state", spec)
    suites = build_suites(spec, prepared, tokenized)
    model = load_with_head(folder, inputs.head.head, None, 5).model
    model.save_pretrained(tmp_path / "model")
    step = score_model(tmp_path / "state", spec, suites, tmp_path / "model")
    return spec, prepared, tokenized, suites, model, step


@pytest.mark.parametrize("kind", [TEXT, WORD])
def test_an_answer_does_not_depend_on_what_it_was_batched_with(tmp_path, encoder, kind) -> None:
    _, _, tokenized, (suite,), model, step = scored(tmp_path, kind, encoder)
    alone = [answer(model, tokenized.labels.names, [item], 48, "cpu")[0] for item in suite.items]
    assert load_answers(step, 0) == alone
    assert answer(model, tokenized.labels.names, suite.items, 48, "cpu", batch_tokens=60) == alone
    assert len({tuple(a) for a in alone}) > 1 or kind == TEXT
    assert [len(a) for a in alone] == [1 if kind == TEXT else len(item.gold) for item in suite.items]


def test_short_texts_can_be_given_any_of_many_labels(encoder) -> None:
    """There are more labels than tokens: each text alone is given the likeliest of all of them."""
    import torch

    names = tuple(f"label {n}" for n in range(50))
    model = load_with_head(encoder, Head(TEXT, names, 0), None, 5).model.eval()
    texts = [np.array([2, *range(5 + n, 9 + n), 3]) for n in range(12)]
    items = [Item(f"f:{n}", "g", 9, ids, ("label 0",)) for n, ids in enumerate(texts)]
    with torch.inference_mode():
        best = [int(model(input_ids=torch.from_numpy(ids)[None]).logits.argmax()) for ids in texts]
    assert max(best) > 10
    assert answer(model, names, items, 48, "cpu") == [[names[n]] for n in best]


def test_words_beyond_the_cut_and_dropped_words_are_answered_with_o(encoder) -> None:
    import torch

    class Always(torch.nn.Module):
        """Answers every position with the tag of number 1."""

        def __init__(self) -> None:
            super().__init__()
            self.config = type("Config", (), {"pad_token_id": 0})()

        def forward(self, input_ids, attention_mask):
            logits = torch.zeros(*input_ids.shape, 2)
            logits[..., 1] = 1
            return type("Output", (), {"logits": logits})()

    words = np.array([-1, 0, 1, -1, 3, 4, -1], np.int32)  # word 2 has no id
    item = Item("f:1", "g", 9, np.arange(7), ("O",) * 5, words)
    names = ("O", "B-X")
    assert answer(Always(), names, [item], 48, "cpu") == [["B-X", "B-X", "O", "B-X", "B-X"]]
    assert answer(Always(), names, [item], 5, "cpu") == [["B-X", "B-X", "O", "O", "O"]], (
        "the last id is [SEP]"
    )


@pytest.mark.parametrize(("kind", "metric"), [(TEXT, "accuracy"), (TEXT, "macro_f1"), (WORD, None)])
def test_a_base_that_cannot_answer_is_stood_for_by_a_yardstick(tmp_path, encoder, kind, metric) -> None:
    objective = {"kind": kind, **({"metric": metric} if metric else {})}
    spec, _, tokenized, suites, _, step = scored(tmp_path, kind, encoder, objective=objective)
    labels = tokenized.labels
    scores = assemble_head_scores(suites, {"candidate": step}, spec.objective, labels)
    (suite,) = scores.suites
    if kind == WORD:
        assert (scores.unit, scores.yardstick) == ("entity F1", "all-O baseline")
        assert suite.value("base", scores.unit) == suite.floor == 0.0
        outside = sum(tag == "O" for item in suites[0].items for tag in item.gold)
        assert suite.word_accuracy("base") == outside / sum(len(item.gold) for item in suites[0].items)
    else:
        most = max(labels.counts, key=labels.counts.get)
        share = sum(item.gold == (most,) for item in suites[0].items) / len(suites[0].items)
        assert scores.yardstick == "majority class"
        assert suite.accuracy("base") == share
        f1 = 2 * share / (1 + share) / len({item.gold for item in suites[0].items})
        assert (
            suite.value("base", scores.unit)
            == suite.floor
            == pytest.approx(share if metric == "accuracy" else f1)
        )
    assert scores.called("base") == scores.yardstick
    real = assemble_head_scores(suites, {"base": step, "candidate": step}, spec.objective, labels)
    assert real.yardstick is None
    assert real.called("base") == "base"
    assert real.suites[0].value("base", real.unit) == real.suites[0].value("candidate", real.unit)


def test_a_champion_is_compared_by_the_names_of_its_labels(tmp_path, encoder) -> None:
    """Its outputs may stand in another order, or be others."""
    spec, _, tokenized, suites, _, _ = scored(tmp_path, TEXT, encoder)
    names = tokenized.labels.names
    turned = load_with_head(
        tmp_path / "model", Head(TEXT, names[::-1], special_ids(encoder, True).pad), None, 5
    ).model
    turned.save_pretrained(tmp_path / "turned")
    first = score_model(tmp_path / "state", spec, suites, tmp_path / "model")
    second = score_model(tmp_path / "state", spec, suites, tmp_path / "turned")
    assert first.key != second.key
    assert load_answers(first, 0) == load_answers(second, 0)


def test_labels_tell_suites_their_gold(tmp_path, encoder) -> None:
    _, prepared, tokenized, (suite,), _, _ = scored(tmp_path, WORD, encoder)
    assert isinstance(tokenized.labels, Labels)
    from tests.toy_heads import tagged_rows

    rows = {" ".join(words): tags for words, tags in tagged_rows(240)}
    import pyarrow.parquet as pq

    table = pq.read_table(prepared.sources[0].parts[0]).to_pylist()
    text_at = {f"{row['file']}:{row['line']}": row["text"] for row in table}
    assert all(list(item.gold) == rows[text_at[item.id]] for item in suite.items)
