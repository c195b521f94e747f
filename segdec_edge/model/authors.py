"""The file format of the authors' implementation: a bare state_dict. Knows no data set and none of our own format.

Their keys, shapes and values are ours, so nothing is converted; what is not exactly that is refused. Files met are the
state_dict itself, one under "state_dict" beside other things, and one whose keys begin with the "module." of
DataParallel. The factors of their gradient stop are no part of it.
"""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from segdec_edge.errors import CheckpointError, ExportError, ModelError
from segdec_edge.files import write_atomic
from segdec_edge.model.segdecnet import SegDecNet

_FIRST = "volume.0.0.weight"
_WRAPPER, _PARALLEL = "state_dict", "module."


def authors_state(content: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """The weights in a file's content, without wrapper and prefix.

    Raises CheckpointError on anything but finite float32 weights of a SegDecNet; path names the file in its message.
    """
    state = content.get(_WRAPPER, content)
    if not isinstance(state, Mapping) or not all(isinstance(key, str) for key in state):
        raise CheckpointError(f"{path}: holds no state_dict, wanted names with weights. Is it another kind of file?")
    if state and all(key.startswith(_PARALLEL) for key in state):
        state = {key.removeprefix(_PARALLEL): value for key, value in state.items()}
    if _FIRST not in state:
        first = f"its first key is {next(iter(state))}" if state else "it is empty"
        raise CheckpointError(
            f"{path}: no weights of SegDecNet in it ({first}), wanted {_FIRST} and the rest. Is it a checkpoint of"
            " another network?"
        )
    for key, value in state.items():
        _refuse_unusable(key, value, path)
    return dict(state)


def network_of(state: Mapping[str, Tensor], path: Path) -> SegDecNet:
    """A SegDecNet of the size that the first weight tells, its weights not yet set. Raises CheckpointError."""
    shape = tuple(state[_FIRST].shape)
    if len(shape) != 4 or 0 in shape:
        raise CheckpointError(
            f"{path}: {_FIRST} has shape {shape}, wanted (32, 1 or 3, 5, 5). Is it a checkpoint of another network?"
        )
    try:
        return SegDecNet(in_channels=shape[1], width=shape[0] / 32)
    except ModelError as error:
        raise CheckpointError(f"{path}: cannot be built: {error}") from error


def save_authors(path: Path, net: SegDecNet) -> None:
    """Write weights, bit for bit, as a file that the authors' implementation loads with strict keys.

    Raises ExportError where it has no such network (width other than 1, batch normalisation), StorageError.
    """
    if net.width != 1.0 or net.norm != "feature":
        raise ExportError(
            f"a network of width {net.width:g} with norm {net.norm}: the authors' implementation has width 1 and norm"
            " feature only. Train with width = 1 and norm = 'feature'."
        )
    state = OrderedDict((key, value.detach().cpu().contiguous()) for key, value in net.state_dict().items())
    buffer = io.BytesIO()  # torch.save turns a full disk into its own RuntimeError; in memory it cannot meet one
    torch.save(state, buffer)
    write_atomic(path, buffer.getvalue())


def _refuse_unusable(key: str, value: object, path: Path) -> None:
    if not isinstance(value, Tensor):
        raise CheckpointError(
            f"{path}: {key} is a {type(value).__name__}, wanted a weight. Is it another kind of file?"
        )
    if value.dtype != torch.float32 or value.layout != torch.strided or value.device.type != "cpu":
        raise CheckpointError(
            f"{path}: {key} is {_kind(value)}, wanted dense float32 as the authors' implementation writes it."
            " Save the network with .float()."
        )
    if not bool(torch.isfinite(value).all()):
        raise CheckpointError(f"{path}: {key} holds values that are no numbers: its training diverged. Train it anew.")


def _kind(value: Tensor) -> str:
    words = [str(value.dtype), str(value.layout), value.device.type]
    return ", ".join(word.removeprefix("torch.") for word in words)
