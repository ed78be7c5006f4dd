"""From files to token sequences: read, validate, deduplicate, decontaminate, split, mix, tokenise, pack."""
