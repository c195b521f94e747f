"""From what was measured to a line of the record: quantiles, ratios, flags. Opens nothing, knows no clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from segdec_edge.bench import stages
from segdec_edge.bench.count import LayerCost, compulsory_bytes, layers_of
from segdec_edge.bench.forms import TORCH, Form, reference_key
from segdec_edge.bench.predict import board_floors
from segdec_edge.bench.record import Accuracy, Ceiling, Cost, Floor, Line, Quantiles, Ratio, Samples, Throughput
from segdec_edge.bench.roofline import ceiling_name, floor_of
from segdec_edge.bench.stages import STAGES, Trial
from segdec_edge.bench.throughput import Crew, Window
from segdec_edge.bundle import read_bundle
from segdec_edge.errors import BundleError
from segdec_edge.timing import Floats, Sitting, outlier_flag, quantile, ratio_interval, stage_of

Entrant = tuple[str, int]
"""A form's key and a batch size: what a line is made of."""


@dataclass(frozen=True)
class Measured:
    """All of a run. windows: by entrant and crew, may be empty."""

    forms: Mapping[str, Form]
    entrants: Sequence[Entrant]
    sittings: Sequence[Sitting[Entrant]]
    load_ms: Mapping[str, Sequence[float]]
    trials: Mapping[str, Trial]
    windows: Mapping[Entrant, Mapping[Crew, Sequence[Window]]]
    energy_source: Mapping[str, str]
    accuracy: Mapping[Entrant, Accuracy]
    ceilings: Mapping[str, Ceiling]
    seed: int

    def samples(self, entrant: Entrant, stage: str) -> Floats:
        return stage_of(self.sittings, entrant, stage)


def key_of(entrant: Entrant) -> str:
    return f"{entrant[0]} b{entrant[1]}"


def line_of(entrant: Entrant, measured: Measured) -> Line:
    key, batch = entrant
    form = measured.forms[key]
    infer = measured.samples(entrant, stages.INFER)
    latency = _quantiles(infer)
    taken = _stages_of(entrant, measured)
    trial = measured.trials.get(key, Trial())
    layers, compulsory = _counted(form, batch)
    ceiling = measured.ceilings.get(ceiling_name(form.backend))
    floor = None if ceiling is None else floor_of(layers, compulsory, ceiling, latency.p50)
    return Line(
        key=key_of(entrant),
        name=form.name,
        backend=form.backend,
        batch=batch,
        precision=form.spec.precision,
        size_hw=form.spec.size_hw,
        sha256=form.spec.sha256,
        size_bytes=form.size_bytes,
        latency=latency,
        per_picture_ms=latency.p50 / batch,
        stages={name: quantile(taken[name], 0.5) if name in taken else None for name in STAGES},
        samples={name: _plain(found) for name, found in taken.items()},
        device_time=stages.DEVICE in taken,
        cost=_cost(trial, batch, measured.load_ms[key]),
        build_seconds=form.build_seconds,
        operations=sum(layer.operations for layer in layers) or None,
        ratio=_ratio(entrant, measured),
        throughput=_throughput(entrant, measured),
        accuracy=measured.accuracy.get(entrant),
        floor=floor,
        board_floors_ms=board_floors(layers, compulsory),
        flags=tuple(flag for flag in (outlier_flag(infer), _peak_flag(floor)) if flag),
    )


def reference_of(measured: Measured, batch: int) -> Entrant:
    """What the others are compared with, at the same batch if it can."""
    key = reference_key(list(measured.forms.values()))
    sizes = [size for name, size in measured.entrants if name == key]
    return key, batch if batch in sizes else sizes[0]


def _quantiles(samples: Floats) -> Quantiles:
    p50, p90, p95, p99 = (quantile(samples, share) for share in (0.5, 0.9, 0.95, 0.99))
    return Quantiles(p50=p50, p90=p90, p95=p95, p99=p99, max=float(samples.max()), count=samples.size)


def _stages_of(entrant: Entrant, measured: Measured) -> dict[str, Floats]:
    told = measured.sittings[0].samples[entrant][0]
    return {name: measured.samples(entrant, name) for name in STAGES if name in told}


def _plain(samples: Floats) -> Samples:
    """To a tenth of a microsecond."""
    return tuple(tuple(round(float(one), 4) for one in sitting) for sitting in samples)


def _ratio(entrant: Entrant, measured: Measured) -> Ratio | None:
    over = reference_of(measured, entrant[1])
    if over == entrant:
        return None
    slower = measured.samples(over, stages.INFER) / over[1]
    faster = measured.samples(entrant, stages.INFER) / entrant[1]
    found = ratio_interval(slower, faster, measured.seed)
    return Ratio(over=key_of(over), times_faster=found.ratio, low=found.low, high=found.high)


def _cost(trial: Trial, batch: int, load_ms: Sequence[float]) -> Cost:
    samples = tuple(round(one, 3) for one in load_ms)
    if trial.host_mib is None:
        return Cost(load_ms=median(load_ms), load_samples_ms=samples)
    return Cost(
        load_ms=trial.load_ms,
        first_verdict_ms=trial.first_verdict_ms,
        import_ms=trial.import_ms,
        host_mib=trial.host_mib.get(batch),
        before_mib=trial.before_mib,
        gpu_mib=(trial.gpu_mib or {}).get(batch),
        load_samples_ms=samples,
    )


def _throughput(entrant: Entrant, measured: Measured) -> Throughput | None:
    tried = measured.windows.get(entrant)
    if not tried:
        return None
    form = measured.forms[entrant[0]]
    best, windows = max(tried.items(), key=lambda item: _rate(item[1]))
    joules = [one.joules_per_picture for one in windows if one.joules_per_picture is not None]
    return Throughput(
        pictures_per_s=_rate(windows),
        how=best.in_words(form),
        samples=_rates(windows),
        others={crew.in_words(form): _rates(found) for crew, found in tried.items() if crew != best},
        joules_per_picture=fmean(joules) if joules else None,
        energy_source=measured.energy_source.get(entrant[0], "") if joules else "",
    )


def _rate(windows: Sequence[Window]) -> float:
    return median(one.pictures_per_s for one in windows)


def _rates(windows: Sequence[Window]) -> tuple[float, ...]:
    return tuple(round(one.pictures_per_s, 3) for one in windows)


def _counted(form: Form, batch: int) -> tuple[tuple[LayerCost, ...], int]:
    """Its layers and what has to move; no layers where there is no graph to count."""
    if form.source is None or form.backend == TORCH:
        return (), 0
    try:
        bundle = read_bundle(form.source.path)
        layers = layers_of(bundle, batch)
    except BundleError:
        return (), 0
    return layers, compulsory_bytes(layers, bundle, batch)


def _peak_flag(floor: Floor | None) -> str:
    if floor is None or floor.achieved <= 1:
        return ""
    return "faster than its floor: the machine's peak was measured too low, while something else ran"
