"""The chain spec: its model, checks and parser, and which version is in force."""
