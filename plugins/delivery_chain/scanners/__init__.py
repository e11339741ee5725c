"""Scans images. Each engine has a folder of its own."""
