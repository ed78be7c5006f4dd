"""What must be true of data before anything trains on it. The only package that imports great_expectations."""
