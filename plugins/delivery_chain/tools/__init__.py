"""Runs outside programs: bounded, with an environment by allow-list."""
