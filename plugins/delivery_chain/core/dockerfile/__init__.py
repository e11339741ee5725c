"""Reads Dockerfiles: instructions, base images, and the line where a build failed."""
