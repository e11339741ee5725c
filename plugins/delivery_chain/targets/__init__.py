"""Delivers an image to what triggers name, such as a webhook. Each kind of target has a file of its own."""
