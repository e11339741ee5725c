"""Reads Dockerfiles: instructions, base images, and where a build failed."""
