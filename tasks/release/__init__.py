"""From a decision to a promoted model: registry, lineage, card, report. Neither torch nor Prefect."""
