"""From files to packed sequences: read, validate, gate, deduplicate, split, tokenise, mix, pack."""
