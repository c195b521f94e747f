"""What may be told of an address that may hold a login. Knows no camera."""

from __future__ import annotations

import re

_URL = re.compile(r"(?P<scheme>\w+)://(?P<net>[^/?#]*)(?P<rest>.*)", re.DOTALL)
_HOST = re.compile(r"([\w.-]+|\[[0-9a-fA-F:.]+\])(:\d{1,5})?")
_ADDRESS = re.compile(r"\w+://[^\s\"']+")
_WORDS = re.compile(
    r"(?i)\b(user-id|user-pw|user|username|password|pass|pwd|token|proxy-pw)(\s*[=:]\s*)(\"[^\"]*\"|\S+)"
)


def host_of(url: str) -> str:
    """rtsp://host:port of an address: many cameras keep the login or a secret in the path or the query as well.

    rtsp://… where it is not certain what is the host, as where a password holds a slash.
    """
    found = _URL.fullmatch(url)
    if found is None:
        return "…"
    host = found["net"].rpartition("@")[2]
    certain = _HOST.fullmatch(host) and ("@" in found["net"] or "@" not in found["rest"])
    return f"{found['scheme']}://{host if certain else '…'}"


def without_login(text: str) -> str:
    """Text of a library on one line, its addresses cut to the host and its passwords left out."""
    line = _ADDRESS.sub(lambda found: host_of(found[0]), " ".join(text.split()))
    return _WORDS.sub(r"\1\2…", line)
