"""Remove staging tags that crashed runs left behind."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from delivery_chain.core.events.built import PUSHED_AT, RUN
from delivery_chain.core.gate.judge import Verdict
from delivery_chain.core.names.tags import STAGING_PREFIX
from delivery_chain.core.seal import Place, opened
from delivery_chain.core.steps import Step
from delivery_chain.core.times import claimed
from delivery_chain.errors import DeletesDisabled, NotFound, SealBroken, Unauthorized
from delivery_chain.operators.base import ChainOperator, names_in_scope

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow.sdk import Context

    from delivery_chain.core.spec.model import ChainSpec
    from delivery_chain.oci.client import RegistryClient
    from delivery_chain.operators.task_instance import TaskInstance

RUNNING = frozenset({"queued", "running"})


class StagingCleanupOperator(ChainOperator):
    """Remove the staging tags of one chain's finished runs, except those of blocked images if the spec keeps these."""

    def __init__(self, *, spec: ChainSpec, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.spec = spec

    def execute(self, context: Context) -> list[str]:
        """Return the removed tags, as `namespace/repository:tag`."""
        from delivery_chain.settings import Settings

        return self.clean_up(context, datetime.now(UTC) - timedelta(hours=Settings.load().staging_keep_hours))

    def clean_up(self, context: Context, oldest: datetime) -> list[str]:
        """Remove and return the tags of finished runs whose push was before `oldest`."""
        from delivery_chain.hooks.registry import OciRegistryHook

        removed: list[str] = []
        with OciRegistryHook(self.spec.scope.instance).client() as client:
            try:
                for name, tag in self._left_over(context["ti"], client, oldest):
                    client.delete_tag(name, tag)
                    removed.append(f"{name}:{tag}")
            except (DeletesDisabled, Unauthorized) as refused:
                # Do not try the other tags: the registry would refuse them, too.
                self.log.warning("Staging tags remain: %s", refused)
        self.log.info("Removed %d staging tags: %s", len(removed), ", ".join(removed) or "none")
        return removed

    def _left_over(
        self, ti: TaskInstance, client: RegistryClient, oldest: datetime
    ) -> Iterator[tuple[str, str]]:
        for name in names_in_scope(client, self.spec):
            for tag in _staging_tags(client, name):
                if self._is_left_over(ti, client, name, tag, oldest):
                    yield name, tag

    def _is_left_over(
        self, ti: TaskInstance, client: RegistryClient, name: str, tag: str, oldest: datetime
    ) -> bool:
        from delivery_chain.core.placeholder import DELETED_TAG

        try:
            manifest = client.get_manifest(name, tag)
        except NotFound:
            return False
        if manifest.artifact_type == DELETED_TAG:
            return True  # A task was killed while it was deleting this tag.
        notes = manifest.annotations
        dag_id, _, run_id = notes.get(RUN, "").partition(" ")
        if not run_id or dag_id != self.spec.name:
            return False
        if claimed(notes.get(PUSHED_AT), datetime.now(UTC)) > oldest or _state(ti, dag_id, run_id) in RUNNING:
            return False
        keep = self.spec.scan.block is not None and not self.spec.scan.block.on_block.delete
        return not (keep and _blocked(ti, dag_id, run_id))


def _blocked(ti: TaskInstance, dag_id: str, run_id: str) -> bool:
    """Whether a run's gate refused its image. An altered verdict counts as a refusal, since it may have been one."""
    verdict = ti.xcom_pull(dag_id=dag_id, run_id=run_id, task_ids=Step.GATE, map_indexes=-1)
    if verdict is None:
        return False
    from delivery_chain.hooks.signing_secret import signing_secret

    try:
        proven = opened(verdict, Place(dag_id, run_id, Step.GATE), signing_secret())
    except SealBroken:
        return True
    return not Verdict.from_xcom(proven).passed


def _staging_tags(client: RegistryClient, name: str) -> list[str]:
    try:
        return [tag for tag in client.list_tags(name) if tag.startswith(STAGING_PREFIX)]
    except NotFound:
        return []


def _state(ti: TaskInstance, dag_id: str, run_id: str) -> str:
    """Return the run's state; empty if Airflow no longer knows the run."""
    from airflow.sdk.exceptions import AirflowRuntimeError

    try:
        return str(ti.get_dagrun_state(dag_id, run_id))
    except AirflowRuntimeError as error:
        # Any other failure says nothing about the run, which may still be in flight.
        if (error.error.detail or {}).get("status_code") != HTTPStatus.NOT_FOUND:
            raise
        return ""
