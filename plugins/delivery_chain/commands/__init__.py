"""The verbs of `delivery-chain`, one file each."""
