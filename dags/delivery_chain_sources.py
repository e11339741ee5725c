"""One Airflow Dag per git source: it watches branches and tags, and starts the chains that build them."""

from airflow.sdk import get_parsing_context

from delivery_chain.catalogue import load
from delivery_chain.factory import make_source_dags, source_words
from delivery_chain.settings import Settings

_wanted = get_parsing_context().dag_id
_specs = load(Settings.load().specs_folder, mentioning=source_words(_wanted) if _wanted else ()).specs

globals().update(make_source_dags(_specs.values(), _wanted))
