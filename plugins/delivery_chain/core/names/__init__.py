"""Names of registries, repositories, tags, platforms and git refs, parsed strictly."""
