"""HTTP to one registry: connections, logins, redirects, and the addresses that are allowed."""
