"""Answers are asked for as trained, alike of every model, and only what is generated counts."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from schemas.errors import UserError
from schemas.results.scores import AnswerSuite, SuiteScores
from schemas.spec.run import RunSpec
from tasks.data.prepare import Tokenized
from tasks.data.tokens.prompts import PLAIN, find_frame, prompt_encoder
from tasks.data.tokens.tokenize import tokenize_source
from tasks.data.tokens.tokenizer import load_tokenizer, special_ids
from tasks.evaluation.scoring import answers as answers_file
from tasks.evaluation.scoring.answers import answer_suite, batches, respond
from tasks.evaluation.scoring.score_model import assemble_scores, score_model
from tasks.evaluation.suites.build import build_suites
from tasks.evaluation.verdict.floor import unigram_floor
from tests.corpora import here, prepare_rows, write_rows
from tests.data.test_prompts import QWEN3, chat_folder
from tests.tiny_base import make_base
from tests.toy_sums import sums_spec, write_sums


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return make_base(tmp_path_factory.mktemp("base") / "model")


class Parrot(torch.nn.Module):
    """A model that generates what it is told, and remembers what it was asked."""

    def __init__(self, says, ends=None):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.says, self.asked = says, []
        self.generation_config = SimpleNamespace(eos_token_id=ends)
        limit = SimpleNamespace(max_position_embeddings=128)
        self.config = SimpleNamespace(get_text_config=lambda: limit)

    def generate(self, input_ids, attention_mask, **settings):
        self.settings = settings
        for ids, mask in zip(input_ids.tolist(), attention_mask.tolist(), strict=True):
            self.asked.append([token for token, kept in zip(ids, mask, strict=True) if kept])
        said = torch.tensor(self.says).expand(len(input_ids), -1)
        return torch.cat([input_ids, said], dim=1)


def prepared_suites(root, base, spec_keys):
    """The suites of a run on sums, and what scores are assembled with."""
    spec = RunSpec.model_validate(spec_keys)
    prepared = prepare_rows(root / "state", spec)
    objective = spec.objective
    frame = find_frame(base, objective.template)
    steps = {
        s.label: tokenize_source(root / "state", s, base, here, spec.record_of(s.source), frame)
        for s in prepared.sources
    }
    special = special_ids(base)
    asks = objective.metric == "exact_match"
    tokenized = Tokenized(special, steps, prepared.divided, None, frame, asks)
    return spec, build_suites(spec, prepared, tokenized), special


@pytest.fixture
def files(tmp_path):
    write_sums(tmp_path)
    return tmp_path


def test_what_is_asked_is_the_framed_prompt_and_nothing_of_the_response(files, base):
    _, (domain, _), _ = prepared_suites(files, base, sums_spec(files, base))
    parrot = Parrot([5, 5])
    answer_suite(parrot, base, domain.items, 2)
    rows = [item.input_ids[: item.context].tolist() for item in domain.items]
    assert sorted(parrot.asked) == sorted(rows)
    decode = load_tokenizer(base).decode
    for ids in parrot.asked:
        text = decode(ids)
        assert text.startswith("### Instruction:\n")
        assert text.endswith("\n\n### Response:\n")
        assert "####" not in text


def test_a_chat_template_is_asked_through_too(files, base, tmp_path):
    chat = chat_folder(base, tmp_path / "chat", QWEN3)
    spec = sums_spec(files, chat, objective={"template": "chat"})
    _, (domain, _), _ = prepared_suites(files, chat, spec)
    parrot = Parrot([5])
    answer_suite(parrot, chat, domain.items, 2)
    wanted = load_tokenizer(chat).token_to_id("<|im_start|>")
    assert all(ids.count(wanted) == 2 for ids in parrot.asked)
    encode = prompt_encoder(chat, find_frame(chat, "chat"))
    question = (files / "test.jsonl").read_text().split('"question": "')[1].split('"')[0]
    assert encode([(question, "")])[0] in parrot.asked


def test_the_likeliest_tokens_are_taken_and_a_response_ends_at_any_of_the_ends(base):
    special = special_ids(base)
    parrot = Parrot([8, 9, 900, 7, special.eos, 6], ends=[900, 901])
    assert respond(parrot, base, [[3, 4], [5]], 6) == [[8, 9], [8, 9]]
    assert parrot.settings["eos_token_id"] == sorted({special.eos, 900, 901})
    assert parrot.settings["do_sample"] is False
    assert parrot.settings["repetition_penalty"] == 1.0
    assert parrot.asked == [[3, 4], [5]], "the shorter prompt is padded in front and the padding masked"
    assert respond(Parrot([8, special.eos, 7]), base, [[3]], 3) == [[8]]


def test_the_real_model_stops_where_it_says_it_does(base):
    from tasks.training.models.load import load_model

    model, eos = load_model(base), special_ids(base).eos
    assert len(respond(model, base, [[0, 5, 6]], 7)[0]) == 7
    with torch.no_grad():
        model.lm_head.weight.zero_()
        model.get_input_embeddings().weight[eos] = 0
    head = torch.nn.Linear(model.config.hidden_size, model.config.vocab_size, bias=True)
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    head.bias.data[eos] = 1.0
    model.lm_head = head
    assert respond(model, base, [[0, 5, 6]], 7) == [[]]


@pytest.mark.parametrize("pads", [True, False])
def test_every_prompt_is_in_one_batch_and_without_padding_batches_have_one_length(pads):
    lengths = np.random.default_rng(3).integers(5, 30, 300).tolist()
    found = list(batches(lengths, 50, pads))
    assert sorted(index for batch in found for index in batch) == list(range(300))
    assert max(map(len, found)) <= answers_file.PROMPTS_AT_ONCE
    if not pads:
        assert all(len({lengths[index] for index in batch}) == 1 for batch in found)


def test_a_prompt_that_the_model_cannot_read_to_its_end_is_refused(files, base):
    _, (domain, _), _ = prepared_suites(files, base, sums_spec(files, base))
    longest = max(domain.items, key=lambda item: item.context)
    with pytest.raises(UserError) as error:
        answer_suite(Parrot([5]), base, domain.items, 120)
    assert f"a prompt has {longest.context} tokens and 120 more" in error.value.what
    assert error.value.where == longest.id
    assert error.value.fix == f"set objective.max_new_tokens to {128 - longest.context} or less"


def test_a_scored_response_without_an_answer_is_refused_with_its_place(files, base):
    write_rows(
        files / "test.jsonl", [{"question": "Why?", "answer": "Because."}, {"question": "1?", "answer": "1"}]
    )
    with pytest.raises(UserError) as error:
        prepared_suites(files, base, sums_spec(files, base))
    assert error.value.what == "1 scored response has no final answer"
    assert error.value.where == f"{files / 'test.jsonl'}:1"
    assert "objective.metric: loss" in error.value.fix


def test_base_and_candidate_are_asked_alike_and_text_beside_is_scored_by_its_loss(files, base, monkeypatch):
    spec, suites, special = prepared_suites(files, base, sums_spec(files, base))
    step = score_model(files / "state", spec, suites, base)
    scores = assemble_scores(suites, {"base": step, "candidate": step}, special.vocab_size)
    domain, text = scores.suites
    assert isinstance(domain, AnswerSuite)
    assert isinstance(text, SuiteScores)
    assert scores.unit == scores.unit_of(domain) == "exact match"
    assert scores.unit_of(text) == "nats per token"
    assert len(domain.items) == 40
    most = max(sum(i.right == item.right for i in domain.items) for item in domain.items)
    assert domain.floor == most / 40
    assert all(item.answered["base"] == item.answered["candidate"] for item in domain.items)


def test_the_loss_of_instructions_counts_responses_alone(files, base):
    spec, suites, special = prepared_suites(files, base, sums_spec(files, base, "loss"))
    step = score_model(files / "state", spec, suites, base)
    scores = assemble_scores(suites, {"base": step}, special.vocab_size)
    domain = scores.suites[0]
    assert isinstance(domain, SuiteScores)
    tokenizer = load_tokenizer(base)
    from tasks.training.models.load import load_model

    model = load_model(base)
    encode = prompt_encoder(base, PLAIN)
    import json

    for line, item in zip((files / "test.jsonl").read_text().splitlines()[:5], domain.items, strict=False):
        row = json.loads(line)
        prompt = encode([(row["question"], "")])[0]
        answer = [*tokenizer.encode(row["answer"], add_special_tokens=False).ids, special.eos]
        with torch.inference_mode():
            logits = model(torch.tensor([prompt + answer])).logits[0].double().log_softmax(-1)
        nats = -sum(float(logits[len(prompt) - 1 + n, token]) for n, token in enumerate(answer))
        assert item.tokens == len(answer)
        assert item.bytes == len(row["answer"].encode())
        assert item.nats["base"] == pytest.approx(nats, rel=1e-4)
    ids = [item.input_ids[item.context - 1 :] for item in suites[0].items]
    assert domain.floor == unigram_floor(ids, special.vocab_size)


def test_prompts_without_room_are_not_scored_and_counted(files, base):
    rows = [
        {"question": "word " * 150, "answer": "#### 1"},
        {"question": "a", "answer": "b " * 150 + "#### 2"},
    ]
    write_rows(files / "test.jsonl", rows)
    _, (domain, _), _ = prepared_suites(files, base, sums_spec(files, base, "loss"))
    assert domain.no_room == 1
    (item,) = domain.items
    assert len(item.input_ids) == 128, "cut as in training"
    _, (domain, _), _ = prepared_suites(files, base, sums_spec(files, base))
    assert (len(domain.items), domain.no_room) == (2, 0), "an answer needs no room for the right response"
    assert [item.gold for item in domain.items] == [("1",), ("2",)]
