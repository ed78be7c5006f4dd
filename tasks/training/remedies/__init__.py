"""Remedies against forgetting: one file each, listed in registry.py."""
