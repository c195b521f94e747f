"""A login never leaves the address it stands in."""

from __future__ import annotations

import pytest

from segdec_edge.cameras.address import host_of, without_login

SECRETS = ("s3cret", "bob")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://192.0.2.4/parts", "rtsp://192.0.2.4"),
        ("rtsp://bob:s3cret@192.0.2.4:8554/parts", "rtsp://192.0.2.4:8554"),
        ("rtsp://bob:s3c/ret@cam.local/parts", "rtsp://…"),
        ("rtsp://bob:123/s3cret@cam.local/parts", "rtsp://…"),
        ("rtsp://bob:s3c@ret@cam.local/parts", "rtsp://cam.local"),
        ("rtsp://cam.local:554/user=bob&password=s3cret&channel=1", "rtsp://cam.local:554"),
        ("rtsp://cam.local:554/live?user=bob&pwd=s3cret", "rtsp://cam.local:554"),
        ("rtsps://bob:s3cret@[2001:db8::4]:322/x", "rtsps://[2001:db8::4]:322"),
        ("rtsp://bob:s3cret@cam.local:99999999/x", "rtsp://…"),
        ("rtsp://bob:s3cret@cam.local:port/x", "rtsp://…"),
        ("rtsp://bob:s3cret@[cam/x", "rtsp://…"),
    ],
)
def test_only_the_host_is_shown(url: str, shown: str) -> None:
    assert host_of(url) == shown


@pytest.mark.parametrize(
    "text",
    [
        "could not open rtsp://bob:s3cret@cam/x",
        'could not set property "location" to "rtsp://bob:s3cret@cam/x"',
        "cannot reach rtsp://cam/s3cret?user=bob",
        "no property in rtspsrc user-id=bob user-pw=s3cret",
        'syntax: password = "bob s3cret"',
        "rtsp://bob:s3c/s3cret@cam/x\nfailed",
    ],
)
def test_words_of_a_library_lose_the_login(text: str) -> None:
    told = without_login(text)
    assert not [secret for secret in SECRETS if secret in told]
    assert "\n" not in told


def test_other_words_stay() -> None:
    assert without_login('no element "videotestrc"') == 'no element "videotestrc"'
