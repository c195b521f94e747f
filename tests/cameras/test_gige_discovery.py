"""One packet to one address: who answers, and what is no answer."""

from __future__ import annotations

import socket
import threading

import pytest

from segdec_edge.cameras import gige_discovery
from segdec_edge.cameras.gige_discovery import Identity, identity_at
from tests.gige import SERIAL, GigeCamera

ANSWER = bytes.fromhex("0000000300f85ede") + bytes(248)


def test_device_says_who_it_is() -> None:
    with GigeCamera():
        assert identity_at("127.0.0.1") == Identity("Aravis", "Fake", SERIAL)


@pytest.mark.parametrize(
    "answer",
    [b"", ANSWER[:-1], b"\x80\x01" + ANSWER[2:], ANSWER[:6] + b"\0\0" + ANSWER[8:], b"\xff" * 300],
    ids=["empty", "cut", "refused", "to another request", "noise"],
)
def test_what_is_no_answer_is_nobody(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as device:
        device.bind(("127.0.0.1", 0))
        device.settimeout(5.0)
        monkeypatch.setattr(gige_discovery, "PORT", device.getsockname()[1])

        def serve() -> None:
            _, asker = device.recvfrom(100)
            device.sendto(answer, asker)

        thread = threading.Thread(target=serve)
        thread.start()
        assert identity_at("127.0.0.1", 2.0) is None
        thread.join()


def test_silence_and_bad_addresses_are_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        monkeypatch.setattr(gige_discovery, "PORT", silent.getsockname()[1])
        assert identity_at("127.0.0.1", 0.05) is None
    assert identity_at("no address", 0.05) is None
