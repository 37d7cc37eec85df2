"""Experiments: `default.py` has every field once, each other file is a small difference to it."""
