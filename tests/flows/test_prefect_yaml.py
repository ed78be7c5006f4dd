"""prefect.yaml deploys what `rootstock serve` serves."""
