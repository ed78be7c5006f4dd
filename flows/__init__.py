"""Whole workflows: the journey, its Prefect flows, and the command line."""
