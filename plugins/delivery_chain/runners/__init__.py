"""Runs jobs, here or elsewhere. Each runner has its own module."""
