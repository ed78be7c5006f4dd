"""Documents for people; specification.md and methods.md are written by `python -m docs.generate`."""
