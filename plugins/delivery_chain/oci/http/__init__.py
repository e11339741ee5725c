"""HTTP to one registry: connections, logins, redirects, and rules for the addresses that it may name."""
