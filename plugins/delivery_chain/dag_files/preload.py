"""Imports the modules of a chain's tasks into a scheduler that forks its tasks (with LocalExecutor).

Task processes then inherit the modules instead of importing them at each start. This module is imported by
`airflow_local_settings.py` in the scheduler (see docs/sandbox.md), and nowhere else.
"""

from importlib import import_module

from delivery_chain.scanners.table import SCANNERS

MODULES = (
    "delivery_chain.dag_files.factory",
    "delivery_chain.spec_store.folder",
    "delivery_chain.hooks.git",
    "delivery_chain.hooks.registry",
    "delivery_chain.hooks.target",
    "delivery_chain.hooks.webhook",
    "delivery_chain.oci.client",
    "delivery_chain.oci.copy.api",
    "delivery_chain.oci.referrers",
    "delivery_chain.oci.closure",
    "delivery_chain.operators.staging_cleanup",
    "delivery_chain.operators.match",
    "delivery_chain.builders.buildah.builder",
    "delivery_chain.hooks.logins",
    "delivery_chain.jobs.build",
    "delivery_chain.jobs.scan",
    "delivery_chain.runners.local",
    "delivery_chain.tools.git.checkout",
    "delivery_chain.tools.git.refs",
    *(path.partition(":")[0] for path in SCANNERS.values()),
    "delivery_chain.targets.webhook_request",
    "airflow.providers.standard.operators.trigger_dagrun",
    "requests",
    "standardwebhooks",
)

for _name in MODULES:
    import_module(_name)
