"""Why a step ended without a result: one line, left under the step's seal, for the run's note and its page."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from airflow.sdk.exceptions import AirflowSkipException, AirflowTaskTimeout

from delivery_chain.core.run.reason import one_line
from delivery_chain.core.seal import is_sealed, sealed
from delivery_chain.core.steps import SKIPPED, SKIPS
from delivery_chain.core.xcom_keys import REASON
from delivery_chain.errors import DeliveryChainError
from delivery_chain.operators.task_instance import place_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.sdk import Context

    from delivery_chain.operators.task_instance import TaskInstance


class LeavesReason:
    """Of an operator: whatever ends `execute` is left as the task's reason, and raised as it was.

    It comes after Airflow's own base. As the first one it would have Airflow take that base's `__init__` for the
    operator's, with defaults that mapped tasks can't start with. Source: `BaseOperatorMeta.__new__`.
    """

    killed = False
    """Whether Airflow ends the task's process: what fails from then on is no reason of its own."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Wrap the operator's own `execute`, or the one that it inherits."""
        super().__init_subclass__(**kwargs)
        for name, wrap in (("execute", _leaving), ("resume_execution", _leaving), ("on_kill", _noting)):
            found = getattr(cls, name, None)
            if found is not None and not hasattr(found, "leaves_reason"):
                wrapped = wrap(found)
                wrapped.leaves_reason = True  # type: ignore[attr-defined]
                setattr(cls, name, wrapped)


def _leaving(execute: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(execute)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return execute(self, *args, **kwargs)
        except (Exception, AirflowTaskTimeout) as error:
            given = [one for one in (*args, *kwargs.values()) if isinstance(one, Mapping) and "ti" in one]
            if given and not self.killed:
                _leave(cast("Context", given[0]), error)
            raise

    return wrapper


def _noting(on_kill: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(on_kill)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        self.killed = True
        return on_kill(self, *args, **kwargs)

    return wrapper


def _leave(context: Context, error: BaseException) -> None:
    kind, reason = _told(error)
    # What can't be left, for example because Airflow does not answer, must not hide why the task failed.
    with suppress(Exception):
        leave_reason(context, reason, kind)


def _told(error: BaseException) -> tuple[str, str]:
    """The name of an error, and its reason for people."""
    kind = type(error).__name__
    said = one_line(_without_secrets(str(error)))
    if isinstance(error, AirflowSkipException):
        cause = type(error.__cause__).__name__
        return (cause if cause in SKIPS else SKIPPED), said
    if isinstance(error, DeliveryChainError):
        return kind, said or kind
    return kind, one_line(f"{kind}: {said}") if said else kind


def _without_secrets(text: str) -> str:
    """The text without what Airflow masks in logs: XComs are not masked."""
    from airflow.sdk.log import redact  # type: ignore[attr-defined]

    return str(redact(text))


def leave_reason(context: Context, reason: str, error: str) -> None:
    """Leave why a task ends without a result.

    Args:
        context: Airflow's.
        reason: One line.
        error: Name of the error's class.
    """
    from delivery_chain.hooks.signing_secret import signing_secret

    ti = context["ti"]
    said = {"reason": reason, "error": error}
    ti.xcom_push(REASON, sealed(said, place_of(ti, key=REASON), signing_secret()))


def reason_of(ti: TaskInstance, step: str, index: int) -> tuple[str, str]:
    """Why another task of the run ended without a result, and the error's name; empty where it left no reason."""
    from delivery_chain.hooks.signing_secret import signing_secret

    data = ti.xcom_pull(task_ids=step, key=REASON, map_indexes=index)
    if data is None or not is_sealed(data, place_of(ti, step, index, key=REASON), signing_secret()):
        return "", ""
    return str(data.get("reason", "")), str(data.get("error", ""))
