"""Judges scan reports by the block policy. Fails closed."""
