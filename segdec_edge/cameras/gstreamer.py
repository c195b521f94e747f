"""Cameras through a GStreamer pipeline: CSI on a Jetson, or whatever else has an element. Knows no verdict.

A live source is free-running: the newest frame only, its age from its time stamp and the pipeline's clock. A file gives
every frame. What it cannot see: a source that stamps frames when they are handed on instead of when they were taken (so
rtspsrc is refused where its buffer may do that), and a file that was cut at a frame's border.
"""

from __future__ import annotations

import sysconfig
import threading
import time
from collections import Counter
from types import ModuleType, TracebackType
from typing import Any

import numpy as np

from segdec_edge.cameras.address import without_login
from segdec_edge.cameras.counters import CameraCounters
from segdec_edge.cameras.freshness import Gaps
from segdec_edge.config.camera import GstreamerConfig
from segdec_edge.errors import CameraError, CameraLost, EndOfStream
from segdec_edge.types import Frame, Pixels

PACKAGES = "python3-gi gir1.2-gst-plugins-base-1.0 gstreamer1.0-plugins-good"
CLOSE_WAIT_S = 5.0
_TAIL = (
    " ! videoconvert ! appsink name=segdec_sink max-buffers=1 sync=false caps=video/x-raw,format=(string){GRAY8,BGR}"
)
_SLICE_NS = 100_000_000  # between two looks at the bus
_CHANNELS = {"GRAY8": 1, "BGR": 3}


class GstreamerCamera:
    """The frames of a pipeline; of a live one the newest, never one older than max_age_s or one given before.

    counters.reasons: the frames that nobody got, skipped (superseded, or lost before the sink), stale, damaged, opening
    (the first). captured_monotonic_ns is when the source stamped the frame, device_ns its time stamp. Raises
    CameraError where the bindings or an element are missing or the pipeline is wrong, CameraLost where it does not
    start.
    """

    def __init__(self, config: GstreamerConfig) -> None:
        self._gst, self._video = bindings()
        self._name, self._max_age_s = config.name, config.max_age_s
        self._pipeline = self._parsed(config.pipeline.get_secret_value())
        self._refuse_restamping()
        self._sink = self._pipeline.get_by_name("segdec_sink")
        self._gaps, self._drops = Gaps(), Counter[str]()
        self._given, self._last_pts, self._closed = 0, -1, False
        try:
            self._live = self._start(config.open_timeout_s)
        except CameraError:
            self.close()
            raise

    @property
    def total(self) -> None:
        """A pipeline does not tell."""
        return

    @property
    def counters(self) -> CameraCounters:
        """Frames given, and those that nobody got, by reason."""
        return CameraCounters(self._given, incomplete=self._drops["damaged"], reasons=dict(self._drops))

    def read(self, timeout_s: float) -> Frame:
        """The next frame. Raises EndOfStream at the end of a file, CameraLost where a live source ends, fails or gives
        no fresh frame in time, CameraError after close().
        """
        if self._closed:
            raise CameraError(f"{self._name}: the camera was closed. Open it again.")
        deadline = time.monotonic_ns() + round(timeout_s * 1e9)
        youngest_s = float("inf")
        while (sample := self._pulled(deadline, self._live)) is not None:
            age_s = self._age_s(sample)
            youngest_s = min(youngest_s, age_s)
            if self._is_wanted(sample.get_buffer(), age_s):
                return self._frame(sample, age_s)
        seen = "none came" if youngest_s == float("inf") else f"the youngest was {youngest_s * 1e3:.0f} ms old"
        raise CameraLost(
            f"{self._name}: no fresh frame within {timeout_s:g} s ({seen}). Check the camera, its cable and"
            " camera.max_age_s."
        )

    def close(self) -> None:
        """Stop the pipeline and let go of its devices; a driver that hangs keeps a thread, never the station."""
        self._closed = True
        stopping = threading.Thread(
            target=self._pipeline.set_state, args=(self._gst.State.NULL,), name=f"stop {self._name}", daemon=True
        )
        stopping.start()
        stopping.join(CLOSE_WAIT_S)

    def __enter__(self) -> GstreamerCamera:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _parsed(self, written: str) -> Any:
        from gi.repository import GLib

        try:
            pipeline = self._gst.parse_launch(written + _TAIL)
        except GLib.Error as error:
            raise CameraError(
                f"{self._name}: not a pipeline ({without_login(error.message)})."
                " Try it with gst-launch-1.0 and ! fakesink at its end."
            ) from None  # the error holds the whole pipeline, and that may hold a login
        return pipeline

    def _start(self, open_timeout_s: float) -> bool:
        """Run the pipeline until its first frame is there; whether it is live. A live one's first frame is dropped."""
        deadline = time.monotonic_ns() + round(open_timeout_s * 1e9)
        change = self._gst.StateChangeReturn
        self._pipeline.set_state(self._gst.State.PAUSED)
        reached, _, _ = self._pipeline.get_state(round(open_timeout_s * 1e9))
        live = bool(reached == change.NO_PREROLL)
        self._sink.set_property("drop", live)
        self._pipeline.set_state(self._gst.State.PLAYING)
        started = reached == change.SUCCESS or (live and self._pulled(deadline) is not None)
        if not started:
            self._refuse_fault(live)
            raise CameraLost(f"{self._name}: no frame within {open_timeout_s:g} s of the start. Check the source.")
        self._drops["opening"] += live
        self._refuse_restamping()  # again: some elements make theirs while they start
        return live

    def _pulled(self, deadline_ns: int, live: bool = True) -> Any:
        """The next sample, None at the deadline. Raises what the bus or the sink has to tell meanwhile."""
        while (left_ns := deadline_ns - time.monotonic_ns()) > 0:
            if (sample := self._sink.try_pull_sample(min(left_ns, _SLICE_NS))) is not None:
                return sample
            self._refuse_fault(live)
        return None

    def _refuse_restamping(self) -> None:
        for element in _elements(self._gst, self._pipeline):
            factory = element.get_factory()
            is_rtsp = factory is not None and factory.get_name() == "rtspsrc"
            if is_rtsp and element.get_property("buffer-mode").value_nick != "none":
                raise CameraError(
                    f"{self._name}: rtspsrc stamps late frames as new ones. Write rtspsrc buffer-mode=none, or take"
                    ' kind = "rtsp".'
                )

    def _refuse_fault(self, live: bool) -> None:
        """Raise what the bus or the sink has to tell, if anything."""
        message = self._pipeline.get_bus().pop_filtered(self._gst.MessageType.ERROR)
        if message is not None:
            error, _ = message.parse_error()
            told = without_login(error.message)
            raise CameraLost(f"{self._name}: {message.src.get_name()} failed ({told}). Check the source.")
        if self._sink.is_eos():
            if live:
                raise CameraLost(f"{self._name}: the live source ended. Check it.")
            raise EndOfStream(f"{self._name}: all {self._given} frames were shown.")

    def _age_s(self, sample: Any) -> float:
        """Seconds since the source stamped the frame, 0 for a file. Raises CameraLost where it has no time stamp."""
        if not self._live:
            return 0.0
        running = sample.get_segment().to_running_time(self._gst.Format.TIME, sample.get_buffer().pts)
        if running == self._gst.CLOCK_TIME_NONE:
            raise CameraLost(
                f"{self._name}: frames without a time stamp, so an old one stays unseen. Add do-timestamp=true."
            )
        now = self._pipeline.get_clock().get_time() - self._pipeline.get_base_time()
        return float(now - running) / 1e9

    def _is_wanted(self, buffer: Any, age_s: float) -> bool:
        if not self._live:
            return True
        self._drops["skipped"] += self._gaps.missing(buffer.pts / 1e9)
        newer, self._last_pts = buffer.pts > self._last_pts, max(buffer.pts, self._last_pts)
        if buffer.has_flags(self._gst.BufferFlags.CORRUPTED):
            self._drops["damaged"] += 1
            return False
        if age_s > self._max_age_s or not newer:
            self._drops["stale"] += 1
            return False
        return True

    def _frame(self, sample: Any, age_s: float) -> Frame:
        age_ns = round(max(0.0, age_s) * 1e9)
        wall_ns, host_ns = time.time_ns() - age_ns, time.monotonic_ns() - age_ns
        pixels, pts = self._pixels(sample), sample.get_buffer().pts
        sequence, self._given = self._given, self._given + 1
        device_ns = None if pts == self._gst.CLOCK_TIME_NONE else int(pts)
        return Frame(pixels, sequence, wall_ns, host_ns, f"{self._name}#{sequence}", device_ns)

    def _pixels(self, sample: Any) -> Pixels:
        """A copy: the sink's memory goes back to the pipeline."""
        info, buffer = self._video.VideoInfo.new_from_caps(sample.get_caps()), sample.get_buffer()
        channels = _CHANNELS[info.finfo.name]
        if buffer.get_size() < info.size:
            raise CameraLost(
                f"{self._name}: a frame of {buffer.get_size()} bytes, wanted {info.size}. Check the pipeline."
            )
        shape = (info.height, info.width) if channels == 1 else (info.height, info.width, channels)
        strides = (info.stride[0], channels, 1)[: len(shape)]
        data: bytes = buffer.extract_dup(0, info.size)
        view = np.ndarray(shape, np.uint8, data, int(info.offset[0]), strides)
        return np.array(view, np.uint8)


def bindings() -> tuple[Any, Any]:
    """The system's Gst and GstVideo, started. Raises CameraError, with the way to them, where this Python has none."""
    try:
        repository = _repository()
    except (ImportError, ValueError) as error:  # ValueError: gi is there, a typelib is not
        site = sysconfig.get_path("platlib")
        raise CameraError(
            f"GStreamer's bindings are not in this Python ({error}). sudo apt-get install {PACKAGES}; into a virtual"
            f" environment of the same Python version: ln -s /usr/lib/python3/dist-packages/gi {site}/"
        ) from error
    repository.Gst.init(None)
    return repository.Gst, repository.GstVideo


def _repository() -> ModuleType:
    import gi

    for namespace in ("Gst", "GstApp", "GstVideo"):
        gi.require_version(namespace, "1.0")
    from gi.repository import Gst, GstApp, GstVideo  # noqa: F401 - GstApp gives the sink its methods

    repository: ModuleType = gi.repository
    return repository


def _elements(gst: Any, pipeline: Any) -> list[Any]:
    found, iterator = [], pipeline.iterate_recurse()
    while (step := iterator.next())[0] == gst.IteratorResult.OK:
        found.append(step[1])
    return found
