"""Builds the forms that Airflow shows for triggering a run manually."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import Param
from airflow.sdk.definitions.param import ParamsDict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from delivery_chain.core.spec.model import ChainSpec


def chain_form(spec: ChainSpec) -> Any:
    """Build the trigger form: a rule and ref to build, or an existing image.

    Airflow shows the fields without a section, and the others under a collapsed heading.
    """
    fields = _git_fields(spec) if spec.build_rules else {}
    fields |= _image_fields(spec, "Or use an existing image" if fields else None)
    if spec.distribute:
        about = "Off: the image is built and copied, but no trigger fires."
        fields["announce"] = Param(default=True, type="boolean", title="Fire triggers", description_md=about)
    return ParamsDict(fields)


def _git_fields(spec: ChainSpec) -> dict[str, Param]:
    rules = "; ".join(f"**{r.name}**: {r.ref_kind} `{r.pattern.text}`" for r in spec.build_rules)
    return {
        "ref": _field(
            "Branch or tag to build",
            "Built as if it had just been pushed: for example `v1.2.0`. Optional for rules with a fixed ref.",
        ),
        "rule": _field(
            "Build rule",
            rules,
            choice=[rule.name for rule in spec.build_rules],
            empty="the one that matches",
        ),
    }


def _image_fields(spec: ChainSpec, section: str | None) -> dict[str, Param]:
    about = f"In namespace `{spec.scope.namespace}` of registry `{spec.scope.instance}`."
    covered = list(spec.scope.repositories)
    return {
        "repository": _field("Repository", about, section, choice=covered, empty="choose one"),
        "tag": _field("Image tag", "For example `v1.2.0`.", section),
        "digest": _field("Image digest", "`sha256:…`; instead of the tag or in addition to it.", section),
    }


def _field(
    title: str, about: str, section: str | None = None, *, choice: Iterable[str] = (), empty: str = ""
) -> Param:
    """An optional text field; with a choice, the form shows `empty` for no value."""
    more: dict[str, Any] = {"section": section} if section else {}
    if names := list(choice):
        more |= {"enum": [None, *names], "values_display": {"null": empty}}
    return Param(None, type=["null", "string"], title=title, description_md=about, **more)


def existing_form(specs: Iterable[ChainSpec]) -> Any:
    names = [spec.name for spec in specs]
    return ParamsDict(
        {
            "chain": _field(
                "Chain",
                "Its replication rules define what is copied where.",
                choice=names,
                empty="choose one",
            ),
            "rule": _field("Replication rule", "Only this one; default: all rules of the chain."),
            "tags": _field("Tags", "A pattern for whole tags, for example `v2.*`; default: all tags."),
        }
    )
