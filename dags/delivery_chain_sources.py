"""One Airflow Dag per git source: it watches branches and tags, and starts the chains that build them."""

from delivery_chain.catalogue import load
from delivery_chain.factory import make_source_dags
from delivery_chain.settings import Settings

globals().update(make_source_dags(load(Settings.load().specs_folder).specs.values()))
