"""Decides where a job runs. Each runner has a module of its own."""
