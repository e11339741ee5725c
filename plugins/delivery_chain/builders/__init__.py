"""Builds images from a context. Each builder has its own folder."""
