"""Builds with buildah: no daemon, and each command in its own namespaces."""
