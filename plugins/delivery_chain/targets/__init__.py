"""Delivers an image to the targets of triggers, such as webhooks. Each kind of target has its own file."""
