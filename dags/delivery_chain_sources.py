"""What starts chains: Dags that watch git sources and images, and one that sends images which were there before."""

from airflow.sdk import get_parsing_context

from delivery_chain.catalogue import load
from delivery_chain.core.watched import watch_words
from delivery_chain.factory import EXISTING, make_existing_dag, make_source_dags
from delivery_chain.settings import Settings

_wanted = get_parsing_context().dag_id
_words = watch_words(_wanted) if _wanted and _wanted != EXISTING else ()
_specs = load(Settings.load().specs_folder, mentioning=_words).specs.values()

if _wanted != EXISTING:
    globals().update(make_source_dags(_specs, _wanted))
if _wanted in {None, EXISTING}:
    existing = make_existing_dag(_specs)
