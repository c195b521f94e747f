"""[camera] of station.toml: one table a source, told apart by its kind. Knows no camera."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Discriminator, Field, SecretStr, Tag, field_validator, model_validator

from segdec_edge.config.feed import FeedConfig

Trigger = Literal["free", "software", "hardware"]
"""free: it takes pictures by itself; software: one for each trigger(); hardware: one for each pulse on its line."""

PixelFormat = Literal[
    "Mono8", "Mono10", "Mono12", "Mono16", "BayerRG8", "BayerGR8", "BayerGB8", "BayerBG8", "RGB8", "BGR8"
]
"""Names of the GenICam Pixel Format Naming Convention. Of more than 8 bits the highest 8 are kept (Mono12: >> 4)."""

DEFAULT_KIND = "replay"


def _text_only(value: Any) -> Any:
    """Pydantic's own message for another type would show what may hold a login."""
    if not isinstance(value, str | SecretStr):
        raise ValueError("not a text, wanted one in quotes. Correct it.")
    return value


Secret = Annotated[SecretStr, BeforeValidator(_text_only)]
"""A text that may hold a login: no message and no report shows it."""


class SourceConfig(FeedConfig):
    """What every camera's table has: name tells the cameras of one station apart, in part ids and in reports."""

    name: str = Field(default="camera", pattern=r"^[a-z][a-z0-9_]*$", max_length=32)


class ReplayConfig(SourceConfig):
    """A replay of a folder, a video file, or a .txt list of pictures, one path a line.

    rate_hz: pictures a second, 0 for as fast as possible; loop: start again at the end;
    pattern: which pictures of a folder, as a shell writes it (*_front.png).
    """

    path: Path
    kind: Literal["replay"] = "replay"
    rate_hz: float = Field(default=0.0, ge=0.0, le=100000.0)
    loop: bool = False
    pattern: str = Field(default="*", min_length=1)


class AravisConfig(SourceConfig):
    """A GigE Vision or USB3 Vision camera. What is not written stays as the device has it.

    device: id, serial number or IP address, as `segdec camera list` shows them; needed where there is more than one. An
    address is asked directly, also in another network.
    trigger_line: the input of a hardware trigger, rising edge; rate_hz: frames a second, free-running only.
    exposure_us in µs, gain in the device's unit (dB for most), region_xywh in pixels of the sensor.
    packet_size in bytes, None: the largest that passes the network; socket_buffer_bytes: what the kernel may hold back;
    packet_resend: ask again for lost packets; buffers: frames that may wait to be read.
    frame_timeout_s: silence after which the camera counts as lost, or a trigger's frame as missing; max_age_s: an older
    frame is never judged, free-running only.
    """

    kind: Literal["aravis"]
    device: str | None = Field(default=None, min_length=1)
    trigger: Trigger = "free"
    trigger_line: str = Field(default="Line1", min_length=1)
    rate_hz: float | None = Field(default=None, gt=0.0, le=100000.0)
    exposure_us: float | None = Field(default=None, gt=0.0, le=1e8)
    gain: float | None = None
    pixel_format: PixelFormat = "Mono8"
    region_xywh: tuple[int, int, int, int] | None = None
    packet_size: int | None = Field(default=None, ge=576, le=65535)
    socket_buffer_bytes: int = Field(default=4 << 20, ge=64 << 10, le=1 << 30)
    packet_resend: bool = True
    buffers: int = Field(default=16, ge=2, le=1024)
    frame_timeout_s: float = Field(default=2.0, gt=0.0, le=3600.0)
    max_age_s: float = Field(default=0.25, gt=0.0, le=60.0)

    @model_validator(mode="after")
    def _region_is_one(self) -> AravisConfig:
        if self.region_xywh is not None and (min(self.region_xywh) < 0 or min(self.region_xywh[2:]) < 1):
            raise ValueError(
                f"region_xywh {list(self.region_xywh)}, wanted x, y ≥ 0 and a width and height. Change it."
            )
        return self

    @model_validator(mode="after")
    def _rate_is_possible(self) -> AravisConfig:
        if self.rate_hz is not None and self.trigger != "free":
            raise ValueError(
                f"rate_hz {self.rate_hz:g} with trigger {self.trigger!r}: the triggers make it. Remove it."
            )
        if self.rate_hz is not None and 1 / self.rate_hz >= self.frame_timeout_s:
            raise ValueError(
                f"rate_hz {self.rate_hz:g} gives a frame every {1 / self.rate_hz:g} s, wanted less than frame_timeout_s"
                f" ({self.frame_timeout_s:g} s). Raise frame_timeout_s."
            )
        return self


class LiveConfig(SourceConfig):
    """What every free-running video source has: max_age_s, beyond which a frame is stale and never judged."""

    max_age_s: float = Field(default=0.25, gt=0.0, le=60.0)


class V4l2Config(LiveConfig):
    """A USB camera through V4L2. What is not written stays as the device has it; what it ignores stops the start.

    device: N of /dev/videoN, or a path (/dev/v4l/by-id/… stays when it is replugged); size_hw in pixels; rate_hz:
    frames a second; fourcc: the form on the wire (MJPG, YUYV); exposure_us in µs, steps of 100, switches automatic off;
    gain in the device's unit.
    """

    kind: Literal["v4l2"]
    device: Annotated[int, Field(ge=0, le=255)] | Annotated[str, Field(min_length=1)] = 0
    size_hw: tuple[Annotated[int, Field(ge=1, le=65535)], Annotated[int, Field(ge=1, le=65535)]] | None = None
    rate_hz: float | None = Field(default=None, gt=0.0, le=100000.0)
    fourcc: str | None = Field(default=None, pattern=r"^[\x20-\x7e]{4}$")
    exposure_us: float | None = Field(default=None, ge=100.0, le=1e8)
    gain: float | None = None


class RtspConfig(LiveConfig):
    """An RTSP stream. url may hold a login, which is never shown; transport udp only for MJPEG.

    open_timeout_s: for the connection and the first frames; read_timeout_s: silence after which the stream is over.
    """

    kind: Literal["rtsp"]
    url: Secret
    transport: Literal["tcp", "udp"] = "tcp"
    open_timeout_s: float = Field(default=5.0, gt=0.0, le=600.0)
    read_timeout_s: float = Field(default=2.0, gt=0.0, le=600.0)

    @field_validator("url")
    @classmethod
    def _url_is_rtsp(cls, url: SecretStr) -> SecretStr:
        if not re.match(r"rtsps?://[^/\s]*[^/\s@:]", url.get_secret_value()):
            raise ValueError("not an RTSP address, wanted rtsp://host/path. Correct it.")
        return url


class GstreamerConfig(LiveConfig):
    """A GStreamer pipeline as gst-launch-1.0 takes it, without a sink: ours comes after it.

    open_timeout_s: until it runs. max_age_s counts for live sources only; a file gives every frame.
    """

    kind: Literal["gstreamer"]
    pipeline: Secret
    open_timeout_s: float = Field(default=10.0, gt=0.0, le=600.0)


def _kind(table: Any) -> str:
    """The tag of a table as written, or of one already checked; files older than `kind` mean a replay."""
    if isinstance(table, dict):
        return str(table.get("kind", DEFAULT_KIND))
    return str(getattr(table, "kind", DEFAULT_KIND))


CameraConfig: TypeAlias = Annotated[
    Annotated[ReplayConfig, Tag("replay")]
    | Annotated[AravisConfig, Tag("aravis")]
    | Annotated[V4l2Config, Tag("v4l2")]
    | Annotated[RtspConfig, Tag("rtsp")]
    | Annotated[GstreamerConfig, Tag("gstreamer")],
    Discriminator(_kind),
]


def trigger_of(camera: SourceConfig) -> Trigger:
    """What takes its pictures; a source that cannot be triggered runs freely."""
    return camera.trigger if isinstance(camera, AravisConfig) else "free"
