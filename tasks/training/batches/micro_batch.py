"""How many tokens go through the model at once."""

from schemas.spec.run import RunSpec

DEFAULT_MICRO_BATCH_TOKENS = 8192


def micro_batch_tokens(spec: RunSpec) -> int:
    """Positions per forward pass, packed."""
    training = spec.training
    return training.micro_batch_tokens or default_micro_batch(training.batch_tokens, training.sequence_length)


def default_micro_batch(batch_tokens: int, sequence_length: int) -> int:
    """The largest whole number of sequences that divides the batch and is at most about 8192 tokens."""
    sequences = batch_tokens // sequence_length
    limit = max(1, DEFAULT_MICRO_BATCH_TOKENS // sequence_length)
    return (
        next(count for count in range(min(limit, sequences), 0, -1) if sequences % count == 0)
        * sequence_length
    )
