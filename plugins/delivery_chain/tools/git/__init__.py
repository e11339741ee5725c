"""Lists refs and checks out commits of git sources."""
