"""Lists the registries that can send webhooks, by sender name. GitHub's registry sends through `github`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from delivery_chain.senders.acr import ACR
from delivery_chain.senders.distribution import DISTRIBUTION
from delivery_chain.senders.dockerhub import DOCKERHUB
from delivery_chain.senders.harbor import HARBOR
from delivery_chain.senders.quay import QUAY

if TYPE_CHECKING:
    from delivery_chain.senders.base import Sender

REGISTRIES: dict[str, Sender] = {
    "acr": ACR,
    "distribution": DISTRIBUTION,
    "dockerhub": DOCKERHUB,
    "harbor": HARBOR,
    "quay": QUAY,
}
