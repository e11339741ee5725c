"""Scans with Trivy, and keeps its databases."""
