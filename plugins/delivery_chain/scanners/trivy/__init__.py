"""Scan with Trivy, and maintain its databases."""
