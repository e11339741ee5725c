"""What starts chains: Dags that watch git sources and images, and one that sends images which were there before."""

from airflow.sdk import get_parsing_context

from delivery_chain.core.watched import watch_words
from delivery_chain.factory import EXISTING, make_existing_dag, make_source_dags
from delivery_chain.in_force import look, mentioning
from delivery_chain.settings import Settings

_wanted = get_parsing_context().dag_id
_folder = Settings.load().specs_folder
_all = _wanted in {None, EXISTING}
_specs = look(_folder).open if _all else mentioning(_folder, watch_words(_wanted or ""))

if _wanted != EXISTING:
    globals().update(make_source_dags(_specs, _wanted))
if _all:
    existing = make_existing_dag(_specs)
