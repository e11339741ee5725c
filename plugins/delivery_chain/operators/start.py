"""Start the runs that a watching Dag decided on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator

if TYPE_CHECKING:
    from collections.abc import Sequence


class StartOperator(TriggerDagRunOperator):
    """Start one run. No field is a template.

    Airflow 3.3 renders the values that it expands from an XCom (`expand_kwargs`), and a git ref can be named
    `{{conn.registry.password}}`. If fields were templates, anyone who pushes such a ref, or edits the XCom, could read
    the password in the run's `conf`.
    """

    template_fields: Sequence[str] = ()
