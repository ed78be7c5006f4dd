"""Where results live: content-addressed step folders that appear whole or not at all."""
