"""Sensors for any Dag: git refs and image tags."""
