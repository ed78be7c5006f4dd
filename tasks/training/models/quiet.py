"""Keep what libraries tell of themselves out of the progress; errors still raise."""

import contextlib
from collections.abc import Iterator


def silence_libraries() -> None:
    """Once for the whole process."""
    import logging

    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # PEFT asks for it, wanted or not


def load_libraries() -> None:
    """Import what loads and tunes a model, which takes seconds, before the first model does."""
    silence_libraries()
    import peft  # noqa: F401
    import torch  # noqa: F401
    from transformers import AutoModelForCausalLM, Trainer  # noqa: F401


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """As long as the block runs: what only Python's warnings can keep quiet."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
