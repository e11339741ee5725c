"""Raises one Airflow import error that lists all problems of invalid chain specs as file:line. Contains no Dag."""

from delivery_chain.errors import SpecError
from delivery_chain.settings import Settings
from delivery_chain.spec_store.folder import load
from delivery_chain.spec_store.in_force import missing

_folder = Settings.load().specs_folder
_found = load(_folder)
_problems = _found.problems or (() if _found.specs else missing(_folder))
if _problems:
    raise SpecError(_problems)
