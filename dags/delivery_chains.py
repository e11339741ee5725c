"""Defines an Airflow Dag for every chain. A task's own process builds only the Dag that the task belongs to."""

from airflow.sdk import get_parsing_context

from delivery_chain.core.dags import MAINTENANCE, REMOVED
from delivery_chain.core.spec.slots import ANY
from delivery_chain.dag_files.factory import make_chain_dag, make_maintenance_dag, make_removed_dag
from delivery_chain.settings import Settings
from delivery_chain.spec_store.in_force import chain, look

_settings = Settings.load()
_folder, _pool = _settings.specs_folder, _settings.replicate_pool
_wanted = get_parsing_context().dag_id

if _wanted in {None, MAINTENANCE, REMOVED}:
    _chains = look(_folder, keep=_wanted is None)
    for _one in _chains.in_force if _wanted is None else ():
        globals()[_one.spec.name] = make_chain_dag(_one.spec, replicate_pool=_pool, standing=_one.standing)
    if _wanted in {None, MAINTENANCE}:
        maintenance = make_maintenance_dag(_chains.open)
    if _wanted in {None, REMOVED} and _chains.removed:
        removed = make_removed_dag(_chains.removed, unsettled=_chains.unsettled)
elif (_spec := chain(_folder, _wanted)) is not None:
    globals()[_wanted] = make_chain_dag(_spec, replicate_pool=_pool, room=ANY)
