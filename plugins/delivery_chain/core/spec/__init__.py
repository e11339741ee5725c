"""The chain spec: its model, checks, parser and version in force."""
