"""Generation: seeded, streamed as it appears, with errors a user can act on."""

import pytest

from schemas.errors import UserError
from tasks.evaluation.scoring.generate import generate

TEXT = "The cat sat on the mat. 猫坐在垫子上。 A dog — and a café — ran far away."


@pytest.fixture(scope="module")
def tokenizer():
    """Bytes with a few merges, a start and an end token: 64 ids do for the tiny model's vocabulary."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted({*pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(TEXT)[0][0]})
    for piece, _ in pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(TEXT):
        alphabet = sorted({*alphabet, *piece})
    vocabulary = {token: index for index, token in enumerate(["<unk>", "<s>", "</s>", *alphabet])}
    assert len(vocabulary) <= 64
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def test_the_same_seed_gives_the_same_text(tiny_model, tokenizer):
    def text(seed: int) -> str:
        return generate(tiny_model, tokenizer, "The cat", 20, 1.0, 1.0, seed)

    assert text(1) == text(1)
    assert len({text(seed) for seed in range(5)}) > 1


def test_generation_leaves_the_global_seed_alone(tiny_model, tokenizer):
    import torch

    before = torch.random.get_rng_state()
    generate(tiny_model, tokenizer, "The cat", 5, 1.0, 1.0, 1)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_temperature_zero_ignores_the_seed(tiny_model, tokenizer):
    assert generate(tiny_model, tokenizer, "The", 20, 0.0, 1.0, 1) == generate(
        tiny_model, tokenizer, "The", 20, 0, 1.0, 2
    )


def test_a_tiny_nucleus_is_the_likeliest_token(tiny_model, tokenizer):
    greedy = generate(tiny_model, tokenizer, "The", 20, 0.0, 1.0, 1)
    assert generate(tiny_model, tokenizer, "The", 20, 1.0, 1e-9, 1) == greedy


def test_streamed_pieces_make_up_the_text(tiny_model, tokenizer):
    most = 0
    for seed in range(5):
        pieces: list[str] = []
        text = generate(tiny_model, tokenizer, "The cat", 20, 1.0, 1.0, seed, on_text=pieces.append)
        assert "".join(pieces) == text
        most = max(most, len(pieces))
    assert most > 3


def test_characters_of_several_tokens_are_streamed_whole(tokenizer):
    """Fed the bytes of a Chinese text one at a time, no broken character is ever shown."""
    import torch

    from tasks.evaluation.scoring.generate import _TextPieces

    shown: list[str] = []
    pieces = _TextPieces(tokenizer, shown.append)
    pieces.put(torch.tensor([[1, *tokenizer.encode("The", add_special_tokens=False)]]))
    for token in tokenizer.encode(" 猫坐 — café", add_special_tokens=False):
        pieces.put(torch.tensor([token]))
    pieces.end()
    assert "".join(shown) == pieces.text == " 猫坐 — café"
    assert not any("\ufffd" in piece for piece in shown)


def test_a_prompt_too_long_for_the_model_is_refused(tiny_model, tokenizer):
    with pytest.raises(UserError) as caught:
        generate(tiny_model, tokenizer, "The cat", 100, 1.0, 1.0, 1)
    assert "has 8 tokens and 100 more are asked for, but the model reads 64" in caught.value.what
    assert caught.value.where == "PROMPT"
    assert caught.value.fix == "ask for at most 56 new tokens"
    with pytest.raises(UserError) as caught:
        generate(tiny_model, tokenizer, "cat " * 40, 1, 1.0, 1.0, 1)
    assert caught.value.fix == "shorten the prompt"


@pytest.mark.parametrize(
    ("settings", "where"),
    [((0, 1.0, 1.0), "--max-new-tokens"), ((5, -1.0, 1.0), "--temperature"), ((5, 1.0, 0.0), "--top-p")],
)
def test_settings_out_of_range_are_refused(tiny_model, tokenizer, settings, where: str):
    with pytest.raises(UserError) as caught:
        generate(tiny_model, tokenizer, "The", *settings, 1)
    assert caught.value.where == where
    assert caught.value.what
    assert caught.value.fix


def test_an_empty_prompt_needs_a_start_token(tiny_model, tokenizer):
    import copy

    assert generate(tiny_model, tokenizer, "", 5, 1.0, 1.0, 1)
    bare = copy.deepcopy(tokenizer)
    bare.bos_token = None
    with pytest.raises(UserError, match="prompt is empty") as caught:
        generate(tiny_model, bare, "", 5, 1.0, 1.0, 1)
    assert caught.value.where == "PROMPT"
    assert "one word" in caught.value.fix


def test_a_story_model_tells_a_story(stories):
    text = generate(*stories, "Once upon a time", 60, 0.0, 1.0, 1)
    assert text.startswith(", there was a ")
