"""Copies images by digest to one or more targets, resumes, and verifies what arrived."""
