"""Builds images from a context. Each builder has a folder of its own."""
