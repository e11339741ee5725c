"""Runs external programs: bounded, with an allowlisted environment."""
