"""Runs jobs somewhere. Each runner has its own module."""
