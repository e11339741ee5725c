"""Every valid chain spec becomes an Airflow Dag. A task's own process makes just the Dag that it is of."""

from airflow.sdk import get_parsing_context

from delivery_chain.catalogue import load, load_one
from delivery_chain.core.slots import ANY
from delivery_chain.factory import MAINTENANCE, make_chain_dag, make_maintenance_dag
from delivery_chain.settings import Settings

_settings = Settings.load()
_folder = _settings.specs_folder
_wanted = get_parsing_context().dag_id
_one = load_one(_folder, _wanted) if _wanted not in {None, MAINTENANCE} else None
_specs = [_one] if _one else list(load(_folder).specs.values())

if _wanted != MAINTENANCE:
    for _spec in _specs:
        globals()[_spec.name] = make_chain_dag(
            _spec, replicate_pool=_settings.replicate_pool, wide=ANY if _wanted else None
        )
if _wanted in {None, MAINTENANCE}:
    maintenance = make_maintenance_dag(_specs)
