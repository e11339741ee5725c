"""Shows every invalid chain spec as one Airflow import error, each problem as file:line. Holds no Dag."""

from delivery_chain.catalogue import load
from delivery_chain.errors import SpecError
from delivery_chain.settings import Settings

_problems = load(Settings.load().specs_folder).problems
if _problems:
    raise SpecError(_problems)
