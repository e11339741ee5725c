"""Setup instructions per sender, in the terms of its own UI; for the command line and for docs/events.md."""

from __future__ import annotations

IN_ADDRESS = frozenset({"acr", "dockerhub", "quay"})
"""Senders that can set no header: the secret is part of the address."""
OWN_SECRET = frozenset({"pagure"})
"""Senders that generate the secret themselves."""
_GITEA = "Settings > Webhooks: Target URL, POST application/json, Secret; trigger on push events"
SETUP: dict[str, str] = {
    "acr": "Repository > Trigger: the address, type All",
    "azure": (
        "Project settings > Service hooks > Web Hooks, on Code pushed: URL, any user name with the secret as Basic "
        "authentication password, resource details All"
    ),
    "bitbucket": "Repository settings > Webhooks: URL, Secret; trigger Repository push",
    "bitbucket-dc": "Repository settings > Webhooks: URL, Secret; event Repository Push",
    "distribution": (
        "notifications.endpoints in the registry's configuration: url, headers: {Authorization: [Bearer SECRET]}"
    ),
    "dockerhub": "Repository > Webhooks: the address",
    "forgejo": _GITEA,
    "gitea": _GITEA,
    "github": (
        "Settings > Webhooks: Payload URL, Content type application/json, Secret; pushes, and packages for ghcr.io"
    ),
    "gitlab": "Settings > Webhooks: URL, Secret token; triggers Push events and Tag push events",
    "gogs": "Settings > Webhooks: Payload URL, application/json, Secret; Create, Delete and Push",
    "harbor": "Project > Webhooks: Endpoint URL, Auth Header `Bearer SECRET`; event Artifact pushed",
    "pagure": "Settings > Project Options > Web-hooks: the address; its secret is the project's web-hook token",
    "quay": "Repository Settings > Notifications: Push to Repository, Webhook POST to the address",
    "standard": "in a bare repository the hook that `delivery-chain git-hook` names, or any Standard Webhooks library",
}
