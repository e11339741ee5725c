"""Sends one request to a registry: connections, logins, redirects, and which addresses are allowed."""
