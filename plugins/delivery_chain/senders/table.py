"""Lists every kind of sender by the name that connections of type webhook_sender use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from delivery_chain.senders.azure import AZURE
from delivery_chain.senders.bitbucket import BITBUCKET, BITBUCKET_DC
from delivery_chain.senders.gitea import FORGEJO, GITEA, GOGS
from delivery_chain.senders.github import GITHUB
from delivery_chain.senders.gitlab import GITLAB
from delivery_chain.senders.pagure import PAGURE
from delivery_chain.senders.registries import REGISTRIES
from delivery_chain.senders.standard import STANDARD

if TYPE_CHECKING:
    from delivery_chain.senders.base import Sender

SENDERS: dict[str, Sender] = {
    "azure": AZURE,
    "bitbucket": BITBUCKET,
    "bitbucket-dc": BITBUCKET_DC,
    "forgejo": FORGEJO,
    "gitea": GITEA,
    "github": GITHUB,
    "gitlab": GITLAB,
    "gogs": GOGS,
    "pagure": PAGURE,
    "standard": STANDARD,
    **REGISTRIES,
}
