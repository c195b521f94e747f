"""Pictures a second with several batches in flight: what a station with several cameras or a busy line gets."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from typing import Any

from segdec_edge.bench.energy import CounterMeter, InaMeter
from segdec_edge.bench.forms import Form, Peer
from segdec_edge.types import Pixels

_FEWEST = 3
"""Calls a window, however slow they are."""


@dataclass(frozen=True)
class Window:
    """pictures a second; joules a picture, None where no meter tells."""

    pictures_per_s: float
    joules_per_picture: float | None


@dataclass(frozen=True)
class Crew:
    """So many instances side by side, each with so many threads (None: the runtime's own choice)."""

    workers: int
    threads: int | None

    def in_words(self, form: Form) -> str:
        if form.on_gpu:
            return "2 batches in flight on the GPU"
        if self.workers == 1:
            return "1 instance, call after call"
        each = f" with {self.threads} thread{'s' if self.threads > 1 else ''} each" if self.threads else ""
        return f"{self.workers} instances{each}"


def crews_of(form: Form, cores: int, threads: int | None) -> tuple[Crew, ...]:
    """The ways worth trying: one instance with all cores, two that share them. The first alone where a GPU does the
    work. Which is faster differs: large layers fill all cores by themselves, small ones leave some idle."""
    alone = Crew(1, threads)
    if form.on_gpu or cores < 2:
        return (alone,)
    return alone, Crew(2, threads or max(1, cores // 2))


def window(
    form: Form,
    pixels: Pixels,
    seconds: float,
    crew: Crew,
    meter: CounterMeter | InaMeter | None,
) -> Window:
    """Run one form flat out for so long. pixels: one batch, prepared. Each worker opens its own and warms it up.

    A backend that can have several batches in flight (submit and collect) has two. Raises what opening or inferring
    raises.
    """
    with ExitStack() as stack:
        # A backend belongs to the thread that made it, so each worker is a pool of one.
        pools = [stack.enter_context(ThreadPoolExecutor(1)) for _ in range(crew.workers)]
        opening = [(member, member.submit(form.open, crew.threads)) for member in pools]
        peers = [(member, opened.result()) for member, opened in opening]
        for member, peer in peers:
            stack.callback(_closed, member, peer)
        calls = [(member, _call_of(peer)) for member, peer in peers]
        for member, call in calls:
            member.submit(call, pixels).result()
        with meter.running() if meter else nullcontext() as used:
            running = [member.submit(_repeat, call, pixels, seconds) for member, call in calls]
            results = [one.result() for one in running]
    rate = sum(done * len(pixels) / spent for done, spent in results)
    joules = used.joules if used else None
    pictures = sum(done for done, _ in results) * len(pixels)
    return Window(rate, None if joules is None else joules / pictures)


def _closed(member: ThreadPoolExecutor, peer: Peer) -> None:
    member.submit(peer.close).result()


def _repeat(call: Callable[[Pixels], object], pixels: Pixels, seconds: float) -> tuple[int, float]:
    start, done = time.perf_counter(), 0
    while done < _FEWEST or time.perf_counter() - start < seconds:
        call(pixels)
        done += 1
    return done, time.perf_counter() - start


def _call_of(peer: Peer) -> Callable[[Pixels], object]:
    return _Pipelined(peer) if hasattr(peer, "submit") else peer.infer


class _Pipelined:
    """Submits a batch before it collects the one before."""

    def __init__(self, backend: Any) -> None:
        self._backend, self._flying = backend, None

    def __call__(self, pixels: Pixels) -> object:
        earlier, self._flying = self._flying, self._backend.submit(pixels)
        return self._backend.collect(earlier) if earlier is not None else None
