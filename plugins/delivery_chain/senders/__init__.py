"""Verifies and parses webhooks: one module per kind of sender turns a request into a `Notification`. Pure."""
