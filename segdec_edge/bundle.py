"""The artefact that travels: a folder with model.onnx, meta.json and often split.json. Knows no runtime.

parts.bundle/
  model.onnx   uint8 pixels in, score and heatmap out
  meta.json    what it is, where it comes from, how well it did, and the threshold; checked on every read
  split.json   which pictures it was trained, validated and tested on, so that a later evaluation can stay honest
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue, ValidationError

from segdec_edge.errors import BundleError, StorageError
from segdec_edge.files import folder_atomic, sha256_of, write_atomic
from segdec_edge.types import ModelSpec

FORMAT = 1
DIGEST = "digest"
MODEL, META, SPLIT, ENGINES = "model.onnx", "meta.json", "split.json", "engines"

Share = Annotated[float, Field(ge=0, le=1)]
Size = tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]
Count = Annotated[int, Field(ge=0)]


class Record(BaseModel):
    """Base of meta.json's tables. An unknown key is kept, so that an older reader does not lose a newer one's facts."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True, allow_inf_nan=False)


class InputFacts(Record):
    """size_hw in pixels; colour: the channel order of the pixels; source_hw: smallest and largest height and width of
    the pictures trained on, before they were resized."""

    size_hw: Size
    channels: Literal[1, 3]
    colour: Literal["grey", "bgr"]
    name: str = "pixels"
    dtype: Literal["uint8"] = "uint8"
    layout: Literal["NHWC"] = "NHWC"
    source_hw: tuple[Size, Size] | None = None


class OutputFacts(Record):
    """Names of the two outputs, both float32 in [0, 1]; heatmap_hw in pixels."""

    heatmap_hw: Size
    score: str = "score"
    heatmap: str = "heatmap"


class ThresholdChange(Record):
    when: AwareDatetime
    old: Share
    new: Share
    why: str


class Threshold(Record):
    """value: on the score; source: the data it was picked on, in words."""

    value: Share
    source: str
    log: tuple[ThresholdChange, ...] = ()


class ModelFacts(Record):
    """What model.onnx is. note says why it is not simplified, where it is not."""

    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    size_bytes: Count
    opset: int
    precision: str = "fp32"
    simplified: bool = False
    note: str = ""


class Parity(Record):
    """Largest absolute difference between model.onnx on any of the backends and the network it came from."""

    pictures: Count
    max_abs_score: float
    max_abs_heatmap: float
    limit: float
    backends: tuple[str, ...] = ("onnxruntime",)

    def in_words(self) -> str:
        return (
            f"on {self.pictures} pictures at most {self.max_abs_score:.1e} from torch in score and"
            f" {self.max_abs_heatmap:.1e} in heat map (limit {self.limit:g}; {', '.join(self.backends)})"
        )


class Accuracy(Record):
    """How this very file did. ap (step-wise average precision) is None without defective or without good parts.

    fp, fn: counts of pictures at `threshold`.
    """

    data: str
    subset: str
    backend: str
    ap: Share | None
    fp: Count
    fn: Count
    threshold: Share
    pictures: Count | None = None
    when: AwareDatetime | None = None


class Step(Record):
    """One step of the road to this file; sha256 of the model.onnx it made; accuracy: how that one did, where known."""

    step: str
    sha256: str
    when: AwareDatetime
    note: str = ""
    accuracy: Accuracy | None = None


class Meta(Record):
    """The whole of meta.json. training: whatever the checkpoint said, but for the split, and its own hash."""

    segdec_edge: str
    created: AwareDatetime
    input: InputFacts
    outputs: OutputFacts
    threshold: Threshold
    model: ModelFacts
    format: Literal[1] = 1
    training: Mapping[str, JsonValue] = {}
    parity: Parity | None = None
    accuracy: tuple[Accuracy, ...] = ()
    versions: Mapping[str, str] = {}
    lineage: tuple[Step, ...] = ()


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk whose meta.json is valid and whose model.onnx has the hash that it names.

    digest: that of meta.json, as the file has it; with the model's hash in it, it names the bundle, threshold and all.
    """

    path: Path
    meta: Meta
    digest: str

    @property
    def model_path(self) -> Path:
        return self.path / MODEL

    @property
    def spec(self) -> ModelSpec:
        meta = self.meta
        return ModelSpec(
            size_hw=meta.input.size_hw,
            channels=meta.input.channels,
            heatmap_hw=meta.outputs.heatmap_hw,
            threshold=meta.threshold.value,
            sha256=meta.model.sha256,
            precision=meta.model.precision,
            source_hw=meta.input.source_hw,
        )

    def split(self) -> Mapping[str, Any] | None:
        """What split.json holds, None where there is none. Raises BundleError where it is not readable."""
        path = self.path / SPLIT
        return _json_object(path) if path.exists() else None


def model_facts(
    onnx_bytes: bytes, *, opset: int, precision: str = "fp32", simplified: bool, note: str = ""
) -> ModelFacts:
    """ModelFacts of these bytes, hash and length included."""
    return ModelFacts(
        sha256=hashlib.sha256(onnx_bytes).hexdigest(),
        size_bytes=len(onnx_bytes),
        opset=opset,
        precision=precision,
        simplified=simplified,
        note=note,
    )


def read_bundle(path: str | Path) -> Bundle:
    """Open a bundle and check it. Raises BundleError: missing, corrupt, newer format, or another model.onnx."""
    path = Path(path)
    if not path.is_dir():
        state = "is a file" if path.exists() else "does not exist"
        raise BundleError(f"{path}: {state}, wanted a bundle folder. Make one: segdec export CHECKPOINT -o {path}")
    bundle = Bundle(path, *_read_meta(path / META))
    _check_model(bundle)
    return bundle


def write_bundle(path: Path, *, onnx_bytes: bytes, meta: Meta, split: Mapping[str, Any] | None = None) -> Bundle:
    """Write a whole bundle or nothing; an older bundle at `path` is replaced in one step.

    Raises BundleError where `path` holds anything else than a bundle, or meta names other bytes than these;
    StorageError where it cannot be written.
    """
    require_replaceable(path)
    digest = hashlib.sha256(onnx_bytes).hexdigest()
    if digest != meta.model.sha256:
        raise BundleError(
            f"{path}: meta names a model {meta.model.sha256[:12]}, got {digest[:12]}. Use model_facts(onnx_bytes)."
        )
    with folder_atomic(path) as folder:
        (folder / MODEL).write_bytes(onnx_bytes)
        text = _to_text(meta)
        (folder / META).write_text(text, encoding="utf-8")
        if split is not None:
            (folder / SPLIT).write_text(json.dumps(split, indent=1), encoding="utf-8")
    return Bundle(path, meta, json.loads(text)[DIGEST])


def require_replaceable(path: Path) -> None:
    """Raise BundleError where `path` exists and holds anything that is not part of a bundle, StorageError where it has
    no folder to be in.

    To be asked before the work that makes a bundle.
    """
    if not path.parent.is_dir():
        raise StorageError(
            f"{path}: cannot be written, there is no folder {path.parent}. Create it, or choose another place."
        )
    if path.is_symlink():
        raise BundleError(f"{path}: is a link, wanted a folder. Give the folder itself: {path.resolve()}")
    if path.is_dir():
        foreign = sorted({entry.name for entry in path.iterdir()} - {MODEL, META, SPLIT, ENGINES})
        if foreign:
            raise BundleError(
                f"{path}: holds {foreign[0]}, which is no part of a bundle; nothing was written. Choose another name."
            )
    elif path.exists():
        raise BundleError(f"{path}: is a file, not a bundle; nothing was written. Choose another name.")


def set_threshold(path: Path, value: float, why: str) -> Bundle:
    """Change a bundle's threshold and log the change. Raises BundleError on a value outside [0, 1] or no reason."""
    if not 0.0 <= value <= 1.0:
        raise BundleError(f"threshold {value}, wanted a number from 0 to 1. Give another one.")
    if not why.strip():
        raise BundleError("a threshold is changed without a reason, wanted one for the log. Say why.")

    def change(meta: Meta) -> Meta:
        entry = ThresholdChange(when=utc_now(), old=meta.threshold.value, new=value, why=why)
        update = {"value": value, "source": why, "log": (*meta.threshold.log, entry)}
        return meta.model_copy(update={"threshold": meta.threshold.model_copy(update=update)})

    return _rewrite(path, change)


def add_accuracy(path: Path, record: Accuracy) -> Bundle:
    """Note how the bundle did; an older record of the same data, subset and backend gives way. Raises BundleError."""

    def change(meta: Meta) -> Meta:
        key = (record.data, record.subset, record.backend)
        others = tuple(old for old in meta.accuracy if (old.data, old.subset, old.backend) != key)
        return meta.model_copy(update={"accuracy": (*others, record)})

    return _rewrite(path, change)


def utc_now() -> datetime:
    """Now, in UTC, to the second."""
    return datetime.now(timezone.utc).replace(microsecond=0)


def _rewrite(path: Path, change: Callable[[Meta], Meta]) -> Bundle:
    meta = change(read_bundle(path).meta)
    text = _to_text(meta)
    write_atomic(path / META, text)
    return Bundle(path, meta, json.loads(text)[DIGEST])


def _to_text(meta: Meta) -> str:
    values = json.loads(meta.model_dump_json())
    return json.dumps({**values, DIGEST: digest_of(values)}, indent=2, ensure_ascii=False) + "\n"


def digest_of(values: Mapping[str, Any]) -> str:
    """SHA-256 of meta.json's content without its own digest, whatever the order of keys and the white space."""
    content = {key: value for key, value in values.items() if key != DIGEST}
    return sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _read_meta(path: Path) -> tuple[Meta, str]:
    """meta.json and its digest. Raises BundleError."""
    values = _json_object(path)
    found = values.get("format")
    if found != FORMAT:
        newer = isinstance(found, int) and found > FORMAT
        advice = "Update segdec-edge to read it." if newer else "Export the checkpoint again."
        raise BundleError(f"{path}: bundle format {found}, wanted {FORMAT}. {advice}")
    stored = values.pop(DIGEST, None)
    try:
        meta = Meta.model_validate_json(json.dumps(values))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise BundleError(
            f"{path}: {key}: {first['msg'][0].lower()}{first['msg'][1:]}. Export the checkpoint again."
        ) from error
    digest = digest_of(values)
    if stored != digest:
        raise BundleError(
            f"{path}: its content is not what its digest says: the file was changed by hand or damaged."
            " Copy the bundle again, or export it anew; another threshold belongs into station.toml."
        )
    return meta, digest


def _json_object(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BundleError(f"{path.parent}: has no {path.name}, so it is no bundle. Check the path.") from None
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror}). Check its permissions.") from error
    except ValueError as error:
        raise BundleError(f"{path}: not valid JSON ({error}). Export the checkpoint again.") from error
    if not isinstance(values, dict):
        raise BundleError(
            f"{path}: holds a {type(values).__name__}, wanted a JSON object. Export the checkpoint again."
        )
    return values


def _check_model(bundle: Bundle) -> None:
    path, wanted = bundle.model_path, bundle.meta.model.sha256
    try:
        digest = sha256_of(path)
    except FileNotFoundError:
        raise BundleError(f"{bundle.path}: has no {MODEL}. Copy the bundle again, or export it anew.") from None
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror}). Check its permissions.") from error
    if digest != wanted:
        raise BundleError(
            f"{path}: hash {digest[:12]}, wanted {wanted[:12]} as {META} says: the file was changed or damaged."
            " Copy the bundle again, or export it anew."
        )
