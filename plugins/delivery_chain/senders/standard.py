"""Our own format, for git servers without webhooks, scripts and CI jobs: signed JSON.

A request has the headers of the Standard Webhooks specification (see `signed`), so any of its libraries can send it:

    webhook-id: push-5f0c1a9e                   the same for each attempt of one event, at most 200 characters
    webhook-timestamp: 1717171717               Unix seconds, at most five minutes from the receiver's clock
    webhook-signature: v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=

Moved refs of a git repository, as a post-receive hook gets them:

    {"type": "source.push",
     "repository": "shop/api",                  the name or a URL of the repository, as in a chain's source
     "actor": "mona",                           optional: person or account that pushed
     "pushed_at": "2024-05-31T16:48:37Z",       optional: time of the push, ISO 8601 with a zone
     "pushes": [{"ref": "refs/heads/main",      the full name
                 "before": "0000…",             optional: the full old commit id; zeros or "" for a new ref
                 "after": "1f3c…"}]}            the full new commit id; zeros or "" for a deleted ref

For an annotated tag, `after` is its peeled commit: `git rev-parse "$new^{commit}"`.

Pushed images, as reported by a registry's own tools or a CI job:

    {"type": "image.push",
     "actor": "ci", "pushed_at": "…",           optional
     "images": [{"name": "shop/api",            the repository in the registry
                 "tag": "v1.2.0",               a tag or a digest, or both
                 "digest": "sha256:…"}]}

`{"type": "ping"}` is answered without effect. Anything else is refused, including unknown keys. To sign the bytes of a
`body`:

    def headers(secret, event_id, body):
        seconds = str(int(time.time()))
        signed = b".".join([event_id.encode(), seconds.encode(), body])
        proof = base64.b64encode(hmac.digest(secret.encode(), signed, "sha256")).decode()
        return {"webhook-id": event_id, "webhook-timestamp": seconds, "webhook-signature": "v1," + proof}
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import AfterValidator, AwareDatetime, Field, ValidationError, field_validator, model_validator

from delivery_chain.core.events.notification import MOST_PUSHES, Text
from delivery_chain.core.events.push import Push
from delivery_chain.core.names.git_ref import check_ref
from delivery_chain.core.value import Value
from delivery_chain.errors import WebhookRefused
from delivery_chain.senders.base import Sender, json_object, notification
from delivery_chain.senders.images import ImageForm
from delivery_chain.senders.pushes import header, ref_push
from delivery_chain.senders.signed import standard_signature

if TYPE_CHECKING:
    from delivery_chain.core.events.notification import Notification
    from delivery_chain.senders.base import Request

# pydantic uses Rust's regexes, in which `$` matches only at the end of the text, not before a final line break.
Commit = Annotated[str, Field(pattern=r"^(?:[0-9a-f]{40}|[0-9a-f]{64})?$")]
"""A full commit id; empty for none."""


class Ping(Value):
    """A test of the connection."""

    type: Literal["ping"]


class MovedRef(Value):
    """A moved ref: like a `Push`, always with commits rather than tag objects."""

    ref: Annotated[str, AfterValidator(check_ref)]
    before: Commit | None = None
    after: Commit


class SourcePush(Value):
    """Moved refs of a git repository."""

    type: Literal["source.push"]
    repository: Annotated[str, Field(min_length=1, max_length=2000)]
    actor: Text = ""
    pushed_at: AwareDatetime | None = None
    pushes: Annotated[tuple[MovedRef, ...], Field(min_length=1, max_length=MOST_PUSHES)]

    @field_validator("pushes", mode="before")
    @classmethod
    def _without_zeros(cls, pushes: object) -> object:
        """Replace git's zeros by empty text; malformed pushes are left for the validation to refuse."""
        return [_without_zeros(push) for push in pushes] if isinstance(pushes, list) else pushes


class NamedImage(ImageForm):
    """An image with a tag, a digest or both."""

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if not (self.tag or self.digest):
            raise ValueError("an image requires a `tag` or a `digest`")
        return self


class ImagesPush(Value):
    """Pushed images."""

    type: Literal["image.push"]
    actor: Text = ""
    pushed_at: AwareDatetime | None = None
    images: Annotated[tuple[NamedImage, ...], Field(min_length=1, max_length=MOST_PUSHES)]


FORMS: dict[str, type[Ping | SourcePush | ImagesPush]] = {
    "ping": Ping,
    "source.push": SourcePush,
    "image.push": ImagesPush,
}


def _parse(request: Request) -> Notification:
    payload = json_object(request)
    name = payload.get("type")
    form = FORMS.get(name) if isinstance(name, str) else None
    if form is None:
        raise WebhookRefused(
            400, f"expected `type` to be one of {', '.join(FORMS)}, found {str(name)[:100]!r}"
        )
    try:
        said = form.model_validate(payload)
    except ValidationError as error:
        raise WebhookRefused(400, _first(error)) from None
    known: dict[str, object] = {"event": name, "delivery_id": header(request, "webhook-id")}
    match said:
        case SourcePush():
            moved = tuple(Push(**push.model_dump()) for push in said.pushes)
            known |= {"repositories": (said.repository,), "pushes": moved}
        case ImagesPush():
            known |= {"pushes": tuple(image.push for image in said.images)}
        case Ping():
            return notification(**known, ignored="a ping: the webhook works")
    return notification(actor=said.actor, pushed_at=said.pushed_at, **known)


def _without_zeros(push: object) -> object:
    if not isinstance(push, dict) or not isinstance(push.get("ref"), str):
        return push
    return push | {
        key: value
        for key, value in ref_push(push["ref"], before=push.get("before"), after=push.get("after")).items()
        if key in push
    }


def _first(error: ValidationError) -> str:
    """Describe the first error in one line."""
    wrong = error.errors(include_url=False)[0]
    where = ".".join(map(str, wrong["loc"]))[:100]
    if wrong["type"] == "extra_forbidden":
        return f"unknown key {where!r}: expected only documented keys"
    return f"{where!r}: {wrong['msg'][:300]}"


STANDARD = Sender(title="Signed JSON", authentic=standard_signature, parse=_parse)
