from __future__ import annotations

import base64
from dataclasses import replace

import pytest

from delivery_chain.errors import WebhookRefused
from delivery_chain.senders.base import Request, receive
from delivery_chain.senders.registries import REGISTRIES
from support.registry_samples import NOW, SECRET, sample

CASES = {
    "acr": "push",
    "distribution": "image-push",
    "dockerhub": "push",
    "harbor": "push-default",
    "quay": "push",
}


def bare(name: str) -> Request:
    """A good request of a sender, without its proof."""
    request = sample(name, CASES[name])
    headers = {key: value for key, value in request.headers.items() if key != "authorization"}
    return replace(request, headers=headers, token="")


def login(name: str, value: str) -> Request:
    request = bare(name)
    return replace(request, headers={**request.headers, "authorization": value})


def basic(user: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("secrets", [(SECRET,), (SECRET, "next"), ("next", SECRET), ("", SECRET)])
def test_each_valid_secret_is_taken_as_the_sender_sends_it(name: str, secrets: tuple[str, ...]) -> None:
    """While a secret is changed, both are valid, in whichever order."""
    assert receive(REGISTRIES[name], sample(name, CASES[name]), secrets, NOW).pushes


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("value", [SECRET, f"Bearer {SECRET}", f"bearer  {SECRET}", basic("chain", SECRET)])
def test_a_header_may_hold_the_secret_in_each_usual_form(name: str, value: str) -> None:
    """An administrator types the header: as it is, as a bearer's token, or as the password of a login."""
    assert receive(REGISTRIES[name], login(name, value), [SECRET], NOW).pushes


WITHOUT_PROOF = {
    "nothing": bare,
    "wrong header": lambda name: login(name, "other"),
    "wrong bearer": lambda name: login(name, "Bearer other"),
    "empty bearer": lambda name: login(name, "Bearer "),
    "wrong password": lambda name: login(name, basic("chain", "other")),
    "secret as user": lambda name: login(name, basic(SECRET, "")),
    "broken basic": lambda name: login(name, "Basic %%%"),
    "other scheme": lambda name: login(name, f"Digest {SECRET}"),
    "secret and more": lambda name: login(name, SECRET + "x"),
    "part of the secret": lambda name: login(name, SECRET[:-1]),
    "not ASCII": lambda name: login(name, "Bearer schlüssel"),
    "half a surrogate": lambda name: login(name, "Bearer \ud800"),
    "wrong token": lambda name: replace(bare(name), token="other"),
    "surrogate token": lambda name: replace(bare(name), token="\udcff"),
    "token in another header": lambda name: replace(bare(name), headers={"x-token": SECRET}),
    "token in the body": lambda name: replace(bare(name), body=f'{{"token": "{SECRET}"}}'.encode()),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("case", WITHOUT_PROOF)
@pytest.mark.parametrize("secrets", [(SECRET,), (SECRET, "next")])
def test_a_request_without_proof_is_refused(name: str, case: str, secrets: tuple[str, ...]) -> None:
    """Nothing but the secret, where it belongs, opens the door."""
    with pytest.raises(WebhookRefused) as refused:
        receive(REGISTRIES[name], WITHOUT_PROOF[case](name), secrets, NOW)
    assert (refused.value.status, str(refused.value)) == (
        401,
        "the request carries no valid signature or token",
    )


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("secrets", [(), ("",), ("", "")])
@pytest.mark.parametrize("value", ["", "Bearer ", basic("chain", ""), SECRET])
def test_without_a_secret_nothing_is_taken(name: str, secrets: tuple[str, ...], value: str) -> None:
    """An empty secret proves nothing, not even for a request with an empty token."""
    with pytest.raises(WebhookRefused) as refused:
        receive(REGISTRIES[name], login(name, value), secrets, NOW)
    assert refused.value.status == 401


@pytest.mark.parametrize("name", CASES)
def test_what_is_not_authentic_is_not_read(name: str) -> None:
    """The proof comes before the parser: a body that is no JSON is refused as without proof."""
    with pytest.raises(WebhookRefused) as refused:
        receive(REGISTRIES[name], replace(bare(name), body=b"{"), [SECRET], NOW)
    assert refused.value.status == 401
