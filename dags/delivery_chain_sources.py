"""Defines the Dags that start chains: those that watch git sources and images, and the backfill of existing images."""

from airflow.sdk import get_parsing_context

from delivery_chain.core.dags import EXISTING
from delivery_chain.core.events.watch_dags import watch_words
from delivery_chain.dag_files.factory import make_existing_dag, make_over_dags, make_source_dags
from delivery_chain.settings import Settings
from delivery_chain.spec_store.in_force import look, mentioning, watched_before

_wanted = get_parsing_context().dag_id
_folder = Settings.load().specs_folder
_all = _wanted in {None, EXISTING}
_chains = look(_folder) if _all else None
_specs = _chains.open if _chains else mentioning(_folder, watch_words(_wanted or ""))

if _wanted != EXISTING:
    _watches = make_source_dags(_specs, _wanted)
    _over = _chains.watched_before if _chains else ()
    if _wanted and not _watches and watched_before(_wanted):
        _over = (_wanted,)
    globals().update({**make_over_dags(_over), **_watches})
if _all:
    existing = make_existing_dag(_specs)
