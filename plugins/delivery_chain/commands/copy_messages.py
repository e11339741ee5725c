"""Rewords the registry client's errors for `delivery-chain copy`, which has no Airflow, connection or worker."""

from __future__ import annotations

import re

IN_OPTIONS = (
    (r"Check login and password of the connection for (?:host )?(?P<host>\S+)",
     r"Log in with `docker login` or `skopeo login`, or name a file of logins with --authfile"),
    (
        r"The login of the connection for (?:host )?(?P<host>\S+) lacks this right",
        r"The login for \g<host> lacks this right",
    ),
    (r"The login is the one of the connection for host", "The login is the one for"),
    (r"and that the connection's user may see them", "and that the login may see them"),
    (r"Put its CA into the connection", "Name its CA with --ca-file HOST=FILE"),
    (r"say so in the connection", "say so with --plain-http HOST"),
    (r"Check the host and port of the connection", "Check the host and port"),
    (r"CA certificate of the connection for (\S+): (.*) Paste the CA's certificate again",
     r"CA certificate for \1: \2 Name a file with the CA's certificate with --ca-file"),
    (r"login of the connection for host", "login for host"),
    (r"can be reached from this worker", "can be reached from this machine"),
    (r"the environment of the worker", "the environment"),
    (r", and the registry is not; if that is intended, list \S+ under private_hosts in the registry's connection",
     ", and the registry is not"),
)  # fmt: skip
"""Patterns of the registry client's advice about connections and workers, and their replacements."""


def in_options(message: str) -> str:
    """Reword an error: name options of this command instead of Airflow's connections."""
    for words, own in IN_OPTIONS:
        message = re.sub(words, own, message)
    return message
