"""Builds with buildah: no daemon, and each command in namespaces of its own."""
