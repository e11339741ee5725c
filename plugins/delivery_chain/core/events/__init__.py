"""Events and pushes: deduplication, routing to chains, the ledger and its gaps."""
