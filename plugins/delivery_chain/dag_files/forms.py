"""The forms that Airflow shows for a run started by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import Param
from airflow.sdk.definitions.param import ParamsDict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from delivery_chain.core.spec.model import ChainSpec


def chain_form(spec: ChainSpec) -> Any:
    """The trigger form: a rule and ref to build, or an image that is there.

    Airflow opens the fields without a section, and shows the others under a closed headline.
    """
    fields = _git_fields(spec) if spec.build_rules else {}
    fields |= _image_fields(spec, "Or take an image that is there" if fields else None)
    if spec.distribute:
        about = "Off: the image is built and copied, and nobody is told."
        fields["announce"] = Param(default=True, type="boolean", title="Fire triggers", description_md=about)
    return ParamsDict(fields)


def _git_fields(spec: ChainSpec) -> dict[str, Param]:
    rules = "; ".join(f"**{r.name}**: {r.ref_kind} `{r.pattern.text}`" for r in spec.build_rules)
    return {
        "ref": _field(
            "Branch or tag to build",
            "Stands in for a push of this ref, for example `v1.2.0`. May be left out for rules with a fixed ref.",
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
        "digest": _field("Image digest", "`sha256:…`; instead of the tag, or together with it.", section),
    }


def _field(
    title: str, about: str, section: str | None = None, *, choice: Iterable[str] = (), empty: str = ""
) -> Param:
    """A text that may be left out; with a choice, `empty` is what the form shows for nothing."""
    more: dict[str, Any] = {"section": section} if section else {}
    if names := list(choice):
        more |= {"enum": [None, *names], "values_display": {"null": empty}}
    return Param(None, type=["null", "string"], title=title, description_md=about, **more)


def existing_form(specs: Iterable[ChainSpec]) -> Any:
    names = [spec.name for spec in specs]
    return ParamsDict(
        {
            "chain": _field(
                "Chain", "Its replication rules say what goes where.", choice=names, empty="choose one"
            ),
            "rule": _field("Replication rule", "Just this one; all of the chain's if left out."),
            "tags": _field("Tags", "A pattern for whole tags, for example `v2.*`; all if left out."),
        }
    )
