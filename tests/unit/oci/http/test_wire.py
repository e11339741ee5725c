"""Registries' responses are parsed without any I/O, whatever they contain."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery_chain.errors import (
    ContentMismatch,
    NotFound,
    ProtocolViolation,
    RegistryBusy,
    RegistryError,
    RegistryFailure,
    TagConflict,
    Unauthorized,
)
from delivery_chain.oci.http.wire import (
    Challenge,
    Refusal,
    error_from,
    next_page,
    parse_challenges,
    parse_retry_after,
    redact,
    with_digest,
)

NOW = 1_800_000_000.0
MANIFESTS = "https://reg.test/v2/a/manifests/v1"
UPLOADS = "https://reg.test/v2/a/blobs/uploads/"


def refusal(method: str, url: str, status: int, code: str = "", message: str = "", **headers: str) -> Refusal:
    body = json.dumps({"errors": [{"code": code, "message": message}]}).encode() if code else b"oops"
    return Refusal(method, url, status, headers, body)


ERRORS = {
    "full, in Harbor's words": (
        refusal(
            "PUT",
            MANIFESTS,
            403,
            "DENIED",
            "adding 2.3 MiB of storage resource, which when updated to current usage of 9 GiB will exceed the "
            "configured upper limit of 9.0 GiB.",
        ),
        Unauthorized,
        "is exhausted: remove images there",
    ),
    "full, 507": (refusal("PUT", MANIFESTS, 507, "QUOTA_EXCEEDED"), RegistryFailure, "is exhausted"),
    "401": (
        refusal("GET", MANIFESTS, 401, "UNAUTHORIZED"),
        Unauthorized,
        "login and password of the connection",
    ),
    "403": (refusal("GET", MANIFESTS, 403, "DENIED"), Unauthorized, "lacks this right"),
    "403 whatever the code": (
        refusal("GET", MANIFESTS, 403, "NAME_UNKNOWN"),
        Unauthorized,
        "lacks this right",
    ),
    "404 without a body": (refusal("GET", MANIFESTS, 404), NotFound, "Check repository, tag or digest"),
    "404 name": (refusal("GET", MANIFESTS, 404, "NAME_UNKNOWN"), NotFound, "NAME_UNKNOWN"),
    "400 missing part": (
        refusal("PUT", MANIFESTS, 400, "MANIFEST_BLOB_UNKNOWN"),
        NotFound,
        "lacks a blob or child",
    ),
    "400 digest": (refusal("PUT", UPLOADS, 400, "DIGEST_INVALID"), ContentMismatch, "sends them again"),
    "400 other": (refusal("PUT", MANIFESTS, 400, "MANIFEST_INVALID"), RegistryError, "rejected this request"),
    "429 of a limit": (
        refusal("GET", MANIFESTS, 429, "TOOMANYREQUESTS", "you exceeded your pull rate limit"),
        RegistryBusy,
        "slow down",
    ),
    "429": (refusal("GET", MANIFESTS, 429), RegistryBusy, "slow down"),
    "503": (refusal("GET", MANIFESTS, 503), RegistryBusy, "slow down"),
    "500": (refusal("GET", MANIFESTS, 500), RegistryFailure, "check the log"),
    "502 whatever the code": (refusal("GET", MANIFESTS, 502, "DENIED"), RegistryFailure, "retry may work"),
    "409 of a tag": (refusal("PUT", MANIFESTS, 409), TagConflict, "TAG_CONFLICT"),
    "409 of an upload": (refusal("PUT", UPLOADS, 409), RegistryFailure, "retry may work"),
    "412 immutable": (
        refusal("PUT", MANIFESTS, 412, "PRECONDITION", "tag is immutable"),
        TagConflict,
        "protects",
    ),
    "403 immutable": (
        refusal("PUT", MANIFESTS, 403, "DENIED", "Immutable tag"),
        TagConflict,
        "protects this tag",
    ),
    "400 tag exists": (
        refusal("PUT", MANIFESTS, 400, "ImageTagAlreadyExistsException"),
        TagConflict,
        "protects",
    ),
    "read of an immutable tag": (
        refusal("GET", MANIFESTS, 403, "DENIED", "immutable"),
        Unauthorized,
        "right",
    ),
    "upload lost": (refusal("PUT", UPLOADS, 404, "BLOB_UPLOAD_UNKNOWN"), RegistryFailure, "retry may work"),
    "302": (refusal("GET", MANIFESTS, 302), ProtocolViolation, "no such response"),
    "405": (refusal("DELETE", MANIFESTS, 405, "UNSUPPORTED"), RegistryError, "rejected this request"),
}


@pytest.mark.parametrize(("answer", "kind", "advice"), ERRORS.values(), ids=ERRORS)
def test_each_answer_is_one_kind_of_error(answer: Refusal, kind: type[RegistryError], advice: str) -> None:
    """Status and code decide the error, and its message says what to do."""
    error = error_from(answer, what="manifest a:v1", now=NOW)

    assert (type(error), error.status, error.url) == (kind, answer.status, answer.url)
    assert advice in str(error)


@pytest.mark.parametrize(
    "body", [b"", b"\xff", b"[]", b'{"errors":1}', b'{"errors":[1,{"code":2}]}', b"[" * 65536]
)
def test_unreadable_bodies_do_no_harm(body: bytes) -> None:
    """An error whose body makes no sense is still the error of its status."""
    error = error_from(Refusal("GET", MANIFESTS, 404, {}, body), what="x", now=NOW)

    assert (type(error), error.codes) == (NotFound, ())


def test_a_registrys_words_are_made_fit_for_a_log() -> None:
    """Control characters and essays in a message don't get into ours."""
    answer = refusal("GET", MANIFESTS, 404, "NAME_UNKNOWN", "line\nbreak\x1b[31m" + "x" * 5000)

    text = str(error_from(answer, what="x", now=NOW))

    assert "\n" not in text
    assert "\x1b" not in text
    assert len(text) < 600


def test_the_wait_that_a_busy_registry_asks_for_is_kept() -> None:
    """Retry-After goes into the error, for the retry to wait as long."""
    busy = refusal("GET", MANIFESTS, 429, **{"Retry-After": "7"})

    assert error_from(busy, what="x", now=NOW).retry_after == 7


WAITS = {
    "seconds": ("120", 120.0),
    "zero": ("0", 0.0),
    "a date": ("Fri, 15 Jan 2027 08:01:00 GMT", 60.0),
    "a date gone by": ("Fri, 15 Jan 2027 07:59:00 GMT", 0.0),
    "too long": ("999999999999999999", 3600.0),
    "missing": ("", None),
    "negative": ("-5", None),
    "words": ("soon", None),
    "a fraction": ("1.5", None),
}


@pytest.mark.parametrize(("value", "seconds"), WAITS.values(), ids=WAITS)
def test_retry_after_is_seconds_or_a_date(value: str, seconds: float | None) -> None:
    """Both forms of RFC 9110 give seconds from 0 to an hour; all else gives nothing."""
    assert parse_retry_after(value, NOW) == seconds


@given(st.text())
def test_any_retry_after_is_bounded(value: str) -> None:
    """No header makes a task wait longer than an hour, or fail."""
    found = parse_retry_after(value, NOW)

    assert found is None or 0 <= found <= 3600


CHALLENGES = {
    "basic": (['Basic realm="x"'], [Challenge("basic", {"realm": "x"})]),
    "bearer": (
        ['Bearer realm="https://t.test/token",service="reg",scope="repository:a:pull,push"'],
        [
            Challenge(
                "bearer",
                {"realm": "https://t.test/token", "service": "reg", "scope": "repository:a:pull,push"},
            )
        ],
    ),
    "spaces and bare words": (
        ["bearer  realm = x ,  service=y"],
        [Challenge("bearer", {"realm": "x", "service": "y"})],
    ),
    "two in one": (
        ['Basic realm="a, b", Bearer realm="c\\"d"'],
        [Challenge("basic", {"realm": "a, b"}), Challenge("bearer", {"realm": 'c"d'})],
    ),
    "two headers": (
        ["Negotiate", "Basic realm=r"],
        [Challenge("negotiate", {}), Challenge("basic", {"realm": "r"})],
    ),
    "token68": (
        ["Negotiate abc==, Basic realm=r"],
        [Challenge("negotiate", {}), Challenge("basic", {"realm": "r"})],
    ),
    "the first of two counts": (["Basic realm=a, realm=b"], [Challenge("basic", {"realm": "a"})]),
    "none": ([], []),
    "empty": (["  "], []),
}


@pytest.mark.parametrize(("headers", "expected"), CHALLENGES.values(), ids=CHALLENGES)
def test_challenges_are_read(headers: list[str], expected: list[Challenge]) -> None:
    """WWW-Authenticate gives its challenges in order."""
    assert list(parse_challenges(headers)) == expected


@pytest.mark.parametrize("header", ["=", '"x"', 'Basic realm="open', "Basic realm=a;b", "x" * 9000])
def test_broken_challenges_are_refused(header: str) -> None:
    """What is not the grammar is a protocol violation."""
    with pytest.raises(ProtocolViolation, match="WWW-Authenticate"):
        parse_challenges([header])


@given(st.text(alphabet=st.sampled_from('aB1 ,="\\/:;\t=-'), max_size=200))
def test_any_challenge_is_read_or_refused(header: str) -> None:
    """No header makes the parser fail in another way, or hang."""
    try:
        parse_challenges([header])
    except ProtocolViolation:
        return


@given(
    st.dictionaries(
        st.sampled_from(["realm", "service", "scope", "error"]),
        st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126)),
    )
)
def test_quoted_parameters_come_back(parameters: dict[str, str]) -> None:
    """Any printable text in quotes is parsed as intended."""
    quoted = ", ".join(
        '{}="{}"'.format(key, value.replace("\\", "\\\\").replace('"', '\\"'))
        for key, value in parameters.items()
    )

    assert parse_challenges([f"Bearer {quoted}"]) == (Challenge("bearer", parameters),)


URL = "https://reg.test/v2/a/tags/list?n=2"
LINKS = {
    "none": ("", None),
    "relative": ('</v2/a/tags/list?last=b&n=2>; rel="next"', "https://reg.test/v2/a/tags/list?last=b&n=2"),
    "absolute": ("<https://reg.test/x>; rel=next", "https://reg.test/x"),
    "the port said": ("<https://reg.test:443/x>; rel=next", "https://reg.test:443/x"),
    "second of two": ('</p>; rel="prev", </n>; title="a, b"; rel="next"', "https://reg.test/n"),
    "several relations": ('</n>; rel="last next"', "https://reg.test/n"),
    "another relation": ('</n>; rel="nextish"', None),
    "nonsense": ("rel=next", None),
}


@pytest.mark.parametrize(("link", "expected"), LINKS.values(), ids=LINKS)
def test_the_next_page_is_found(link: str, expected: str | None) -> None:
    """A Link header gives the next page's absolute URL."""
    assert next_page(link, URL) == expected


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.test/v2/",
        "http://reg.test/",
        "//evil.test/",
        "https://reg.test:444/",
        "ftp://x/",
        "https://[x/",
    ],
)
def test_a_next_page_elsewhere_is_refused(target: str) -> None:
    """A list continues only at the registry that it came from."""
    with pytest.raises(ProtocolViolation):
        next_page(f'<{target}>; rel="next"', URL)


@given(st.text(alphabet=st.sampled_from('<>;,= "relnxt/?a'), max_size=200))
def test_any_link_is_read_or_refused(link: str) -> None:
    """No Link header makes the reader fail in another way, or leave the registry."""
    try:
        found = next_page(link, URL)
    except ProtocolViolation:
        return
    assert found is None or found.startswith("https://reg.test/")


REDACTED = {
    "known keys stay": (
        "https://r.test/t?service=s&scope=repository:a:pull",
        "https://r.test/t?service=s&scope=repository:a:pull",
    ),
    "signatures go": (
        "https://s3.test/b?X-Amz-Signature=abc&n=1",
        "https://s3.test/b?X-Amz-Signature=REDACTED&n=1",
    ),
    "upload state goes": ("http://r.test:5000/u?_state=abc", "http://r.test:5000/u?_state=REDACTED"),
    "users go": ("https://user:pw@r.test/x#secret", "https://r.test/x"),
    "unreadable": ("https://[", "(unreadable URL)"),
}


@pytest.mark.parametrize(("url", "shown"), REDACTED.values(), ids=REDACTED)
def test_urls_are_shown_without_secrets(url: str, shown: str) -> None:
    """Only known query keys keep their values."""
    assert redact(url) == shown


@pytest.mark.parametrize(
    ("location", "expected"),
    [("/u", "/u?digest=sha256:aa"), ("/u?_state=x%3D", "/u?_state=x%3D&digest=sha256:aa")],
)
def test_an_upload_keeps_its_state(location: str, expected: str) -> None:
    """The digest is added to what the registry put into the location, byte for byte."""
    assert with_digest(location, "sha256:aa") == expected
