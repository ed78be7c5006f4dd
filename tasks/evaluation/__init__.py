"""What a model can do, before and after: scores, their uncertainty, and the verdict."""
