"""Tells targets that an image arrived. Each kind of target has a file of its own."""
