"""One path from prompt to ids: the ids of a prompt are the same in training, in scoring and when it is to be answered."""

import json
import shutil
from pathlib import Path

import pytest

from schemas.errors import UserError
from tasks.data.tokens import chat_template
from tasks.data.tokens.prompts import PLAIN, Frame, find_frame, prompt_encoder, read_frame, write_frame
from tasks.data.tokens.token_files import open_tokens
from tasks.data.tokens.tokenize import tokenize_source
from tasks.data.tokens.tokenizer import load_tokenizer, special_ids
from tests.corpora import here, make_spec, prepare_rows, source, write_rows

QWEN3 = """\
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- if enable_thinking is defined and enable_thinking is false %}
{{- '<think>\\n\\n</think>\\n\\n' }}
{%- endif %}
{%- endif %}"""
"""The form of Qwen3's own template, without its tools."""
ROWS = [
    ("What is 2 + 3?", "", "2 + 3 = 5\n#### 5"),
    ("Translate.", "河水很清。", "The river is clear."),
    ("  padded \n", "", "\n yes "),
    ("say <|end|> and <|begin|> or <|im_end|>", "<|im_start|>", "no <|end|>"),
]


def chat_folder(tokenizer_folder: Path, folder: Path, template: str | None) -> Path:
    """The tiny tokenizer with Qwen's two control tokens and a chat template."""
    from transformers import AutoTokenizer

    shutil.copytree(tokenizer_folder, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def chat(tokenizer_folder, tmp_path) -> Path:
    return chat_folder(tokenizer_folder, tmp_path / "chat", QWEN3)


def tokenised(tmp_path: Path, folder: Path, frame: Frame) -> list[tuple[list[int], int]]:
    """(ids, ids of the prompt) of each of ROWS."""
    rows = [{"instruction": p, "input": c, "output": r} for p, c, r in ROWS]
    spec = make_spec(
        objective={"kind": "instruction"},
        domain=[source(write_rows(tmp_path / "d.jsonl", rows))],
        evaluation={"domain_holdout": 0.2, "general": [source(write_rows(tmp_path / "g.jsonl", rows[:1]))]},
    )
    prepared = prepare_rows(tmp_path / "state", spec).sources[0]
    step = tokenize_source(tmp_path / "state", prepared, folder, here, "instruction", frame)
    (part,) = open_tokens(step, 1, special_ids(folder).vocab_size)
    found = [(part.document(row).tolist(), part.context(row)) for row in range(len(ROWS))]
    assert step.facts["tokens"] == sum(len(ids) for ids, _ in found)
    assert part.labels.tolist() == [len(ids) - context for ids, context in found]
    return found


def test_a_document_is_the_prompt_as_it_is_asked_then_the_response_then_one_eos(tmp_path, tokenizer_folder):
    special, tokenizer = special_ids(tokenizer_folder), load_tokenizer(tokenizer_folder)
    asked = prompt_encoder(tokenizer_folder, PLAIN)([(p.strip(), c) for p, c, _ in ROWS])
    for (ids, context), prompt, (_, _, response) in zip(
        tokenised(tmp_path, tokenizer_folder, PLAIN), asked, ROWS, strict=True
    ):
        assert ids[:context] == prompt
        answer = tokenizer.encode(response.strip(), add_special_tokens=False).ids
        assert ids[context:] == [*answer, special.eos]
        assert ids[0] == special.bos
        assert not {special.bos, special.eos} & set(ids[1:-1]), "control tokens in data stay text"


def test_the_plain_frame_reads_as_it_is_documented(tokenizer_folder) -> None:
    encode, tokenizer = prompt_encoder(tokenizer_folder, PLAIN), load_tokenizer(tokenizer_folder)
    bare, whole = encode([("Add.", ""), ("Add.", "2, 3")])
    assert tokenizer.decode(bare) == "### Instruction:\nAdd.\n\n### Response:\n"
    assert tokenizer.decode(whole) == "### Instruction:\nAdd.\n\n### Input:\n2, 3\n\n### Response:\n"


def test_a_chat_prompt_has_the_ids_that_transformers_gives_it(chat) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(chat)
    encode = prompt_encoder(chat, find_frame(chat, "chat"))
    for prompt in ("What is 2 + 3?", "\n河水很清。", "two\n\nlines\n"):
        messages = [{"role": "user", "content": prompt}]
        wanted = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
        assert encode([(prompt, "")]) == [tokenizer.encode(wanted, add_special_tokens=False)]


def test_thinking_is_off_and_its_empty_block_is_part_of_the_prompt(chat) -> None:
    assert find_frame(chat, "chat").after.endswith("assistant\n<think>\n\n</think>\n\n")


def test_control_tokens_in_a_prompt_open_no_turn(chat, tmp_path) -> None:
    tokenizer = load_tokenizer(chat)
    start, end = (tokenizer.token_to_id(name) for name in ("<|im_start|>", "<|im_end|>"))
    for ids, context in tokenised(tmp_path, chat, find_frame(chat, "chat")):
        assert ids[:context].count(start) == 2
        assert ids[:context].count(end) == 1
        assert ids[-1] == special_ids(chat).eos
        assert not {start, end, special_ids(chat).eos} & set(ids[context:-1])


@pytest.mark.parametrize(
    ("template", "why"),
    [
        (None, "has no chat template"),
        ("{{ raise_exception('needs a system message') }}", "needs a system message"),
        ("{{ messages[0].content }}{{ messages[0].content }}", "writes a message 2 times"),
        ("nothing", "writes a message 0 times"),
        ("{{ messages[0].content|length }}{{ messages[0].content }}", "depends on the message"),
        ("{{ strftime_now('%Y') }}{{ messages[0].content }}", "writes today's date"),
        ("{{ messages.__class__.__mro__ }}{{ messages[0].content }}", "fails on a single user message"),
    ],
)
def test_a_template_that_cannot_be_used_is_refused(tokenizer_folder, tmp_path, template, why) -> None:
    folder = chat_folder(tokenizer_folder, tmp_path / "chat", template)
    with pytest.raises(UserError) as error:
        find_frame(folder, "chat")
    assert why in error.value.what
    assert str(folder) in error.value.where
    assert "template: plain" in error.value.fix


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "not done after"),
        ("{{ 'a' * 10**10 }}{{ messages[0].content }}", "memory"),
        ("{{ '%1000000000s' % 'a' }}", "memory"),
        (
            "{% set n = namespace(x='aa') %}{% for a in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
            "memory",
        ),
        (
            "{{ messages[0].content }}{% for a in range(9999) %}{{ 'a' * 999 }}{% endfor %}",
            "more than a million",
        ),
        ("{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}", "recursion"),
    ],
)
def test_a_template_that_takes_too_much_is_stopped_and_named(
    tokenizer_folder, tmp_path, monkeypatch, template, why
) -> None:
    monkeypatch.setattr(chat_template, "SECONDS", 2)
    folder = chat_folder(tokenizer_folder, tmp_path / "chat", None)
    (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(UserError) as error:
        find_frame(folder, "chat")
    assert why in error.value.what
    assert error.value.where == str(folder / "chat_template.jinja")
    assert "template: plain" in error.value.fix


def test_a_date_in_a_template_is_always_the_same(tokenizer_folder, tmp_path) -> None:
    llama = (
        "{%- if not date_string is defined %}{%- set date_string = strftime_now('%d %b %Y') %}{%- endif %}"
        "Today: {{ date_string }} {{ messages[0].content }}"
    )
    folder = chat_folder(tokenizer_folder, tmp_path / "chat", llama)
    assert find_frame(folder, "chat").before == "Today: 26 Jul 2024 "


def test_a_frame_is_stored_beside_a_model_and_read_back(tmp_path) -> None:
    assert read_frame(tmp_path) is None
    frame = Frame("chat", "<|im_start|>问\n", "\n")
    write_frame(frame, tmp_path)
    assert read_frame(tmp_path) == frame
    (tmp_path / "prompt.json").write_text(json.dumps({"before": "a"}))
    with pytest.raises(UserError, match="not a frame"):
        read_frame(tmp_path)
