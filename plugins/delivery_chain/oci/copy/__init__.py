"""Copies images by digest to one or more targets, resumes interrupted copies, and verifies what arrived."""
