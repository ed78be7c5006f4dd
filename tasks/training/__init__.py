"""From a base model and a plan of sequences to a tuned model, through checkpoints that survive a kill."""
