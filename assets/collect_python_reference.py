"""Collect the language reference that ships inside Python (pydoc_data.topics) as JSONL: one passage a row.

Usage: python assets/collect_python_reference.py [FILE]
"""

import json
import sys
from pathlib import Path
from pydoc_data.topics import topics

TARGET = ".rootstock/quickstart/python_reference.jsonl"
PASSAGE_CHARACTERS = 1500


def passages(text: str) -> list[str]:
    """Whole paragraphs gathered to about PASSAGE_CHARACTERS; a longer paragraph stays whole."""
    gathered: list[str] = []
    for paragraph in text.strip().split("\n\n"):
        if gathered and len(gathered[-1]) + len(paragraph) < PASSAGE_CHARACTERS:
            gathered[-1] += "\n\n" + paragraph
        else:
            gathered.append(paragraph)
    return [passage for passage in gathered if passage.strip()]


def main(target: Path) -> None:
    """Write the passages of every topic; the topic is the group that a split must not cut."""
    target.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        json.dumps({"topic": topic, "text": passage}, ensure_ascii=False)
        for topic, text in sorted(topics.items())
        for passage in passages(text)
    ]
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(lines)} passages of Python's language reference in {target}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else TARGET))
