"""The data path that one writes from the usual libraries, each used as its documentation shows.

json.loads + a pydantic model per row; Great Expectations on one pandas frame; a set of normalised texts against
duplicates; `datasets` map with the fast tokenizer; train_test_split; TRL's pack_dataset.
"""

import hashlib
import json
import time
import unicodedata
from pathlib import Path
from typing import Any


def run(file: Path, tokenizer_folder: Path, settings: dict[str, Any], processes: int) -> dict[str, Any]:
    """Take a JSONL file to packed sequences; return seconds per stage and what is needed to compare results."""
    started = time.perf_counter()
    import great_expectations as gx
    import pandas as pd
    from datasets import Dataset
    from great_expectations.data_context.types.base import ProgressBarsConfig
    from pydantic import BaseModel, ValidationError, field_validator
    from transformers import AutoTokenizer
    from trl import pack_dataset

    from benchmarks.measure import cpu_seconds, peak_memory_bytes
    from data_contracts.contract import load_contract
    from data_contracts.expectations import expectation

    class Row(BaseModel):
        text: str

        @field_validator("text")
        @classmethod
        def usable(cls, text: str) -> str:
            if not text.strip() or "\x00" in text:
                raise ValueError("empty or NUL")
            text.encode()  # a lone surrogate would stop pandas later
            return text

    clock = [("imports", time.perf_counter() - started)]
    cpu = cpu_seconds()
    begin = last = time.perf_counter()

    def lap(stage: str) -> None:
        nonlocal last
        now = time.perf_counter()
        clock.append((stage, now - last))
        last = now

    rows = []
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                row = Row(**json.loads(line))
            except (ValidationError, ValueError, TypeError):
                continue
            rows.append({"line": number, "text": row.text})
    lap("read and validate")

    frame = pd.DataFrame(rows)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False, metric_calculations=False)
    asset = context.data_sources.add_pandas("pandas").add_dataframe_asset("rows")
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": frame})
    suite = gx.ExpectationSuite(
        name="contract",
        expectations=[expectation(rule) for rule in load_contract(settings["contract"]).rules],
    )
    passed = all(result.success for result in batch.validate(suite).results)
    lap("contract")

    seen: set[str] = set()
    keep = []
    for text in frame["text"]:
        key = " ".join(unicodedata.normalize("NFC", text).split())
        keep.append(key not in seen)
        seen.add(key)
    frame = frame[keep]
    lap("duplicates and split")

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    end = tokenizer.eos_token_id

    def tokenise(rows: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        ids = tokenizer(rows["text"], return_attention_mask=False)["input_ids"]
        return {"input_ids": [[*row, end] for row in ids]}

    dataset = Dataset.from_pandas(frame, preserve_index=False)
    tokens = dataset.map(
        tokenise, batched=True, num_proc=processes if processes > 1 else None, remove_columns=["text"]
    )
    lap("tokenise")

    split = tokens.train_test_split(test_size=settings["holdout"], seed=settings["seed"])
    packed = pack_dataset(
        split["train"].select_columns(["input_ids"]), settings["sequence_length"], strategy="bfd"
    )
    lap("mix and pack")
    peak, cpu = peak_memory_bytes(), cpu_seconds() - cpu
    return {
        "seconds": last - begin,
        "cpu_seconds": cpu,
        "peak_memory_bytes": peak,
        "stages": dict(clock),
        "passed": passed,
        **_describe_tokens(tokens),
        **_describe_packs(packed, settings["sequence_length"]),
    }


def _describe_tokens(tokens: Any) -> dict[str, Any]:
    """Which rows were kept, and a hash over the ids of all of them."""
    import numpy as np

    ids, ends, lines = hashlib.sha256(), hashlib.sha256(), hashlib.sha256()
    count = rows = 0
    for batch in tokens.with_format("arrow").iter(5000):
        column = batch.column("input_ids").combine_chunks()
        values = column.flatten().to_numpy().astype(np.uint32)
        lengths = np.diff(column.offsets.to_numpy())
        ids.update(values.tobytes())
        ends.update(lengths.astype(np.int64).tobytes())
        lines.update(batch.column("line").to_numpy().astype(np.int64).tobytes())
        count, rows = count + len(values), rows + len(lengths)
    hashes = {
        "lines_sha256": lines.hexdigest(),
        "lengths_sha256": ends.hexdigest(),
        "ids_sha256": ids.hexdigest(),
    }
    return {"rows": rows, "tokens": count, **hashes}


def _describe_packs(packed: Any, sequence_length: int) -> dict[str, Any]:
    filled = sum(
        len(batch.column("input_ids").combine_chunks().flatten())
        for batch in packed.with_format("arrow").iter(1000)
    )
    return {
        "sequences": len(packed),
        "packed_tokens": filled,
        "fill_ratio": filled / (len(packed) * sequence_length),
    }
