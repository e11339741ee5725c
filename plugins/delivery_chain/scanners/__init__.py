"""Scans images. Each engine has its own folder."""
