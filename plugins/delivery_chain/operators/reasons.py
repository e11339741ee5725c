"""Record why a step ended without a result: one line, sealed by the step, for the run's note and page."""

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
    """Mixin for operators: leaves any error that ends `execute` as the task's reason, and reraises it unchanged.

    List this class after Airflow's own base. If it came first, Airflow would take its `__init__` for the operator's,
    with defaults that mapped tasks can't start with. Source: `BaseOperatorMeta.__new__`.
    """

    killed = False
    """Whether Airflow is killing the task's process. Failures after that are only its consequences."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Wrap the operator's `execute`, its own or inherited."""
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
    kind, reason = _kind_and_reason(error)
    # If the reason can't be stored (Airflow may be unreachable), that must not hide why the task failed.
    with suppress(Exception):
        leave_reason(context, reason, kind)


def _kind_and_reason(error: BaseException) -> tuple[str, str]:
    """Return the name of an error and its reason for people."""
    kind = type(error).__name__
    text = one_line(_without_secrets(str(error)))
    if isinstance(error, AirflowSkipException):
        cause = type(error.__cause__).__name__
        return (cause if cause in SKIPS else SKIPPED), text
    if isinstance(error, DeliveryChainError):
        return kind, text or kind
    return kind, one_line(f"{kind}: {text}") if text else kind


def _without_secrets(text: str) -> str:
    """Mask what Airflow masks in logs, because it does not do so in XComs."""
    from airflow.sdk.log import redact  # type: ignore[attr-defined]

    return str(redact(text))


def leave_reason(context: Context, reason: str, error: str) -> None:
    """Leave the reason why a task ends without a result.

    Args:
        context: Airflow's task context.
        reason: One line.
        error: Name of the error's class.
    """
    from delivery_chain.hooks.signing_secret import signing_secret

    ti = context["ti"]
    found = {"reason": reason, "error": error}
    ti.xcom_push(REASON, sealed(found, place_of(ti, key=REASON), signing_secret()))


def reason_of(ti: TaskInstance, step: str, index: int) -> tuple[str, str]:
    """Return why another task of the run ended without a result, and the error's name; empty if it left no reason."""
    from delivery_chain.hooks.signing_secret import signing_secret

    data = ti.xcom_pull(task_ids=step, key=REASON, map_indexes=index)
    if data is None or not is_sealed(data, place_of(ti, step, index, key=REASON), signing_secret()):
        return "", ""
    return str(data.get("reason", "")), str(data.get("error", ""))
