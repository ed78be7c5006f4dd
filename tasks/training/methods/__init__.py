"""Tuning methods: one file each, listed in registry.py."""
