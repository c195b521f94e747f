"""An RTSP server whose pictures say when they were made; run by the system's python3, which has GStreamer's bindings.

    python3 tests/clock_server.py PORT [--codec h264|mjpeg] [--fps 25] [--user U --password P] [--loss 0.05]

Each picture (256×160, grey) shows the host's monotonic clock in milliseconds as 32 squares, and their opposites below,
so that a reader on the same host measures a frame's true age and sees a damaged one. --loss drops RTP packets. `ready`
on stdout: it listens. Needs python3-gi, gir1.2-gst-rtsp-server-1.0, gstreamer1.0-plugins-good and -ugly.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from typing import Any

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

WIDTH, SQUARE, BITS = 256, 16, 32
STRIPE = WIDTH // SQUARE  # squares a row
ENCODERS = {
    "h264": "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=25 bitrate=2000 ! rtph264pay pt=96",
    "mjpeg": "jpegenc ! rtpjpegpay pt=26",
}


def picture(stamp_ms: int) -> bytes:
    """GRAY8 256×160: two rows of squares for the bits, two for their opposites, the rest a pattern that moves."""
    rows = bytearray()
    bits = [stamp_ms >> bit & 1 for bit in range(BITS)]
    for squares in (bits[:STRIPE], bits[STRIPE:], [1 - bit for bit in bits[:STRIPE]], [1 - b for b in bits[STRIPE:]]):
        rows += b"".join(bytes([220 if square else 30]) * SQUARE for square in squares) * SQUARE
    moving = bytes((column * 3 + stamp_ms // 4) % 256 for column in range(WIDTH))
    return bytes(rows + moving * (160 - 4 * SQUARE))


class Feed:
    """Gives the media's appsrc one picture every 1/fps seconds."""

    def __init__(self, fps: float, loss: float) -> None:
        self._interval_ms = round(1000 / fps)
        self._loss = loss

    def configure(self, _factory: object, media: Any) -> None:
        source = media.get_element().get_by_name("clock")
        packets = media.get_element().get_by_name("pay0").get_static_pad("src")
        packets.add_probe(Gst.PadProbeType.BUFFER | Gst.PadProbeType.BUFFER_LIST, self._lose)
        timer = GLib.timeout_add(self._interval_ms, self._push, source)
        media.connect("unprepared", lambda _media: GLib.source_remove(timer))

    def _lose(self, _pad: object, _info: object) -> Any:
        return Gst.PadProbeReturn.DROP if random.random() < self._loss else Gst.PadProbeReturn.OK

    def _push(self, source: Any) -> bool:
        source.emit("push-buffer", Gst.Buffer.new_wrapped(picture(time.monotonic_ns() // 1_000_000)))
        return True


def serve(port: int, codec: str, fps: float, transport: str, login: tuple[str, str] | None, loss: float) -> None:
    Gst.init(None)
    server = GstRtspServer.RTSPServer(service=str(port), address="127.0.0.1")
    factory = GstRtspServer.RTSPMediaFactory()
    encoder = ENCODERS[codec]
    factory.set_launch(
        f"( appsrc name=clock is-live=true do-timestamp=true format=time"
        f" caps=video/x-raw,format=GRAY8,width={WIDTH},height=160,framerate={round(fps)}/1"
        f" ! videoconvert ! video/x-raw,format=I420 ! {encoder} name=pay0 )"
    )
    factory.set_shared(True)
    lower = GstRtsp.RTSPLowerTrans
    factory.set_protocols({"tcp": lower.TCP, "udp": lower.UDP, "any": lower.TCP | lower.UDP}[transport])
    factory.connect("media-configure", Feed(fps, loss).configure)
    if login is not None:
        _protect(server, factory, *login)
    server.get_mount_points().add_factory("/parts", factory)
    server.attach(None)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    GLib.MainLoop().run()


def _protect(server: Any, factory: Any, user: str, password: str) -> None:
    auth = GstRtspServer.RTSPAuth()
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "viewer")
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
    server.set_auth(auth)
    role = Gst.Structure.new_from_string("viewer, media.factory.access=true, media.factory.construct=true")
    factory.add_role_from_structure(role)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--codec", choices=sorted(ENCODERS), default="h264")
    parser.add_argument("--fps", type=float, default=25.0)
    parser.add_argument("--transport", choices=("any", "tcp", "udp"), default="any")
    parser.add_argument("--user")
    parser.add_argument("--password", default="")
    parser.add_argument("--loss", type=float, default=0.0)
    asked = parser.parse_args()
    login = (asked.user, asked.password) if asked.user else None
    serve(asked.port, asked.codec, asked.fps, asked.transport, login, asked.loss)
