"""Render a chat template that somebody wrote, in a process of its own with little time, memory and output.

transformers renders in a sandbox that keeps templates from code and files, not from loops and long texts.
"""

import json
import os
import signal
import subprocess
import sys
from typing import Any

SECONDS = 10
"""Of processor time; a template of thousands of lines takes milliseconds, starting the process about one second."""
MEMORY_BYTES = 2**29
"""Beside what the process has when it begins."""
OUTPUT_CHARACTERS = 2**20
_OUT_OF_TIME = (signal.SIGXCPU, signal.SIGKILL)

_PROGRAM = """
import json, resource, sys
from transformers.utils.chat_template_utils import render_jinja_template
asked = json.load(sys.stdin)
used = resource.getrusage(resource.RUSAGE_SELF)
spent = int(used.ru_utime + used.ru_stime)
resource.setrlimit(resource.RLIMIT_CPU, (spent + asked["seconds"], spent + asked["seconds"] + 1))
have = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (have + asked["memory"], have + asked["memory"]))
try:
    done = [
        render_jinja_template([chat], chat_template=asked["template"], add_generation_prompt=True, **asked["given"])[0][0]
        for chat in asked["chats"]
    ]
    if max(map(len, done)) > asked["output"]:
        answer = {"limit": "it writes more than a million characters"}
    else:
        answer = {"done": done}
except MemoryError:
    answer = {"limit": "it fills the memory"}
except Exception as error:
    text = next((line for line in str(error).splitlines() if line.strip()), "")
    answer = {"failed": (text or type(error).__name__)[:300]}
sys.stdout.write(json.dumps(answer))
"""


class TemplateFailed(Exception):
    """A template that cannot be rendered; says why."""


def render(template: str, chats: list[list[dict[str, str]]], given: dict[str, Any]) -> list[str]:
    """Each chat as text, with the start of an answer behind it; `given` are further variables of the template.

    Raises:
        TemplateFailed: it fails, or takes more than it may.
    """
    asked = {
        "template": template, "chats": chats, "given": given, "seconds": SECONDS, "memory": MEMORY_BYTES,
        "output": OUTPUT_CHARACTERS,
    }  # fmt: skip
    slow = f"it is not done after {SECONDS} seconds"
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", _PROGRAM],
            input=json.dumps(asked, default=str),
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=20 * SECONDS,  # of a busy machine's clock
            check=False,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    except subprocess.TimeoutExpired:
        raise TemplateFailed(slow) from None
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        ended = "its rendering was ended by the system"
        raise TemplateFailed(slow if -done.returncode in _OUT_OF_TIME else ended) from None
    if "done" not in answer:
        raise TemplateFailed(answer.get("limit") or f"it fails on a single user message: {answer['failed']}")
    texts: list[str] = answer["done"]
    return texts
