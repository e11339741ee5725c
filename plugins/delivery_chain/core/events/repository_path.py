"""Normalizes the different addresses of one git repository to one path, so that they can be compared. Pure."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

_SCP = re.compile(r"(?!/)[^/:]+:(?!//)(.*)", re.DOTALL)
_PREFIXES = ("scm", "v3")
"""Leading segments that are not part of the name: Bitbucket Data Center's HTTPS, Azure DevOps' SSH."""


def path_of(address: str) -> str:
    """Normalized path of a clone URL, an scp-like address, a web page or a full name.

    `https://git.example.com/Shop/API.git`, `git@git.example.com:shop/api.git` and `shop/api` are all `shop/api`.
    Empty if the address has no path.

    Source: git-clone(1), "GIT URLS"; forges compare names without regard to case.
    """
    try:
        path = urlsplit(address).path if "://" in address else address
    except ValueError:
        return ""
    if "://" not in address and (scp := _SCP.fullmatch(address)):
        path = scp[1]
    segments = [part for part in unquote(path).split("/") if part and part != "_git"]
    if len(segments) > 1 and segments[0].lower() in _PREFIXES:
        del segments[0]
    return "/".join(segments).lower().removesuffix(".git")


def ends_of(whole: str, below: str) -> set[str]:
    """The path `whole` and, if it ends in `below`, its shorter suffixes down to one folder above `below`.

    For `srv/git/shop/api` and `api`: `srv/git/shop/api`, `git/shop/api` and `shop/api`. Both paths come from `path_of`.
    """
    if not below or not whole.endswith(f"/{below}"):
        return {whole} - {""}
    parts = whole.removesuffix(f"/{below}").split("/")
    return {"/".join((*parts[first:], below)) for first in range(len(parts))}
