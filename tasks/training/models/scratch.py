"""Make a new base model: a byte-fallback BPE tokenizer and random Llama weights."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from schemas.errors import UserError
from schemas.spec.base_model import Scratch
from tasks.data.split.divide import Fate, load_fates
from tasks.data.tokens.text import part_texts
from tasks.data.validate.sources import PreparedSource
from tasks.storage.code import code_version
from tasks.storage.steps import Step, StepPlan, run_step

BOS, EOS = "<|begin|>", "<|end|>"

# Where text is cut before byte pairs merge: words with their leading space, runs of Han characters, three digits at
# most, punctuation with line ends. After the pattern of Llama 3 and Qwen 2, Han characters set apart from letters.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)| ?\p{Han}+| ?[\p{L}--\p{Han}]+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
).replace(r"[\p{L}--\p{Han}]", r"(?:(?!\p{Han})\p{L})")


def make_base(
    root: Path, scratch: Scratch, seed: int, sources: Sequence[PreparedSource], divided: Step
) -> Path:
    """Train the tokenizer on the training rows and initialise the weights; return the model folder.

    Raises:
        UserError: the widths do not divide.
    """
    if scratch.hidden_size % scratch.heads or scratch.heads % scratch.kv_heads:
        raise UserError(
            f"heads ({scratch.heads}) must divide hidden_size ({scratch.hidden_size}) and kv_heads"
            f" ({scratch.kv_heads}) must divide heads",
            "base.from_scratch",
            "choose widths that divide",
        )
    plan = StepPlan(
        root=root,
        name="scratch",
        inputs={"divided": divided.key, **{source.label: source.validated.key for source in sources}},
        settings=[scratch.model_dump(), seed],
        code=code_version(__name__),
    )

    def work(folder: Path) -> dict[str, Any]:
        tokenizer = train_tokenizer(lambda: _training_texts(sources, divided), scratch)
        save_tokenizer(tokenizer, folder, scratch.context_length)
        return {"parameters": _save_random_model(scratch, tokenizer, seed, folder)}

    return run_step(plan, work).folder


def _training_texts(sources: Sequence[PreparedSource], divided: Step) -> Iterator[str]:
    for source in sources:
        for part, fates in zip(source.parts, load_fates(divided, source), strict=True):
            texts = (text for batch in part_texts(part) for text in batch)
            yield from (text for text, fate in zip(texts, fates, strict=True) if fate == Fate.ACCEPTED)


def train_tokenizer(texts: Callable[[], Iterator[str]], scratch: Scratch) -> Any:
    """Train byte-pair merges; characters outside the alphabet are spelt as bytes. The texts are gone through twice.

    The trainer's own choice of an alphabet differs from run to run where characters are equally frequent.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    settings = scratch.tokenizer
    tokenizer = Tokenizer(models.BPE(byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(SPLIT), "isolated")
    counts: Counter[str] = Counter()
    for text in texts():
        counts.update(text)
    alphabet = sorted(counts, key=lambda character: (-counts[character], character))[: settings.alphabet_size]
    bytes_ = [f"<0x{value:02X}>" for value in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=settings.vocab_size,
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        special_tokens=[BOS, EOS, *bytes_],
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts(), trainer)
    state = json.loads(tokenizer.to_str())
    # the trainer only places the byte tokens as "special" ones, which decoding would then leave out
    state["added_tokens"] = [token for token in state["added_tokens"] if token["content"] in (BOS, EOS)]
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    bos = tokenizer.token_to_id(BOS)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, bos)]
    )
    return tokenizer


def save_tokenizer(tokenizer: Any, folder: Path, context_length: int) -> None:
    """Write tokenizer.json and the configuration transformers reads."""
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": EOS,
        "pad_token": EOS,
        "model_max_length": context_length,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")


def _save_random_model(scratch: Scratch, tokenizer: Any, seed: int, folder: Path) -> int:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=scratch.hidden_size,
        intermediate_size=scratch.intermediate_size,
        num_hidden_layers=scratch.layers,
        num_attention_heads=scratch.heads,
        num_key_value_heads=scratch.kv_heads,
        max_position_embeddings=scratch.context_length,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.token_to_id(BOS),
        eos_token_id=tokenizer.token_to_id(EOS),
        pad_token_id=None,
        dtype="float32",
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    return sum(parameter.numel() for parameter in model.parameters())
