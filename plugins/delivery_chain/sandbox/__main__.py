"""`python -m delivery_chain.sandbox`: the sandbox commands alone."""

from __future__ import annotations

import argparse
import sys

from delivery_chain.sandbox.cli import add_parser


def main() -> int:
    """Run one command."""
    parser = argparse.ArgumentParser(prog="delivery-chain")
    add_parser(parser.add_subparsers(required=True))
    given = parser.parse_args(["sandbox", *sys.argv[1:]])
    code: int = given.func(given)
    return code


if __name__ == "__main__":
    sys.exit(main())
