"""One git repository has many addresses: the path by which they are compared. Pure."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

_SCP = re.compile(r"(?!/)[^/:]+:(?!//)(.*)", re.DOTALL)
_PREFIXES = ("scm", "v3")
"""First segments that are no part of the name: Bitbucket Data Center's https, Azure DevOps' ssh."""


def path_of(address: str) -> str:
    """The path of a clone URL, an scp-like address, a web page or a full name, as forges compare names.

    `https://git.example.com/Shop/API.git`, `git@git.example.com:shop/api.git` and `shop/api` are all `shop/api`.
    Empty if there is none.

    Source: git-clone(1), "GIT URLS"; forges take names of either case as the same.
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
    """The path `whole` and its ends that are longer than `below`, where it ends with that; paths as of `path_of`.

    Of `srv/git/shop/api` below which `api` is named: itself, `git/shop/api` and `shop/api`.
    """
    if not below or not whole.endswith(f"/{below}"):
        return {whole} - {""}
    parts = whole.removesuffix(f"/{below}").split("/")
    return {"/".join((*parts[first:], below)) for first in range(len(parts))}
