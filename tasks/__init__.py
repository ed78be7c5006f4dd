"""The work: one Prefect task file per stage here, the plain Python of each stage in the folder of its name."""
