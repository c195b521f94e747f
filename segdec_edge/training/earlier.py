"""Where a training stopped: its checkpoint, if it is of the same training. Trains nothing."""

from __future__ import annotations

from pathlib import Path

from segdec_edge.config.train import TrainSettings
from segdec_edge.errors import ConfigError
from segdec_edge.model.checkpoint import Checkpoint, load_checkpoint, require_network
from segdec_edge.training.changed import changed_settings, changed_splits

_FREE_TO_CHANGE = {"device", "tensorboard", "cache_gib", "workers"}


def earlier_checkpoint(path: Path, settings: TrainSettings, *, resume: bool) -> Checkpoint | None:
    """The last whole epoch of a training to continue, None to start anew.

    Raises ConfigError where it may not be continued or was another training, CheckpointError.
    """
    if not path.exists():
        return None
    if not resume:
        raise ConfigError(f"{path}: a training is there already. Continue it with --resume, or choose another folder.")
    checkpoint = load_checkpoint(path)
    if not checkpoint.progress:
        raise ConfigError(f"{path}: holds weights only, wanted a checkpoint of a training run. Choose another folder.")
    require_network(checkpoint, path, in_channels=settings.channels, width=settings.width, norm=settings.norm)
    changed = changed_settings(settings, checkpoint.facts["settings"], _FREE_TO_CHANGE)
    if changed:
        raise ConfigError(
            f"{path}: was trained with {', '.join(changed)}. Use those settings to resume, or choose another folder."
        )
    other = changed_splits(settings, checkpoint.facts.get("split", {}).get("file_sha256", ""))
    if other:
        raise ConfigError(
            f"{path}: {other} changed since it was trained with. Restore that file, or choose another folder."
        )
    return checkpoint
