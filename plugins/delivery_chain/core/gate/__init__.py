"""Judge scan reports by the block policy. Fails closed."""
