"""Imports what a chain's tasks need, for a scheduler whose tasks are its forks: LocalExecutor.

A task's process then has the modules already, instead of importing them again at each start. Imported from
`airflow_local_settings.py` in the scheduler only (see docs/sandbox.md); nothing else imports it.
"""

from importlib import import_module

MODULES = (
    "delivery_chain.factory",
    "delivery_chain.catalogue",
    "delivery_chain.hooks.git",
    "delivery_chain.hooks.registry",
    "delivery_chain.hooks.webhook",
    "delivery_chain.oci.client",
    "delivery_chain.oci.copy",
    "delivery_chain.oci.referrers",
    "delivery_chain.oci.walk",
    "delivery_chain.operators.maintenance",
    "delivery_chain.operators.sources",
    "delivery_chain.tools.buildah",
    "delivery_chain.tools.context",
    "delivery_chain.tools.git",
    "delivery_chain.tools.trivy",
    "airflow.providers.standard.operators.trigger_dagrun",
    "requests",
    "standardwebhooks",
)

for _name in MODULES:
    import_module(_name)
