"""Who may train in a folder: one process at a time, or one group of them. Knows nothing of what is trained."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from segdec_edge.errors import TrainingError
from segdec_edge.files import storage_error

LOCK = "training.lock"


def hold(folder: Path, until: ExitStack, note: Callable[[str], None]) -> None:
    """Hold a folder's lock until the stack closes; the system frees it when the process ends, however it ends.

    A file system without locks is noted. Raises TrainingError where another process trains there, StorageError.
    """
    path = folder / LOCK
    try:
        held = until.enter_context(path.open("ab", buffering=0))
    except OSError as error:
        raise storage_error(path, error) from error
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = path.read_text(encoding="ascii", errors="replace").strip() or "unknown"
        raise TrainingError(
            f"{folder}: another process trains there (process {holder}). Wait for it or stop it, or choose another"
            " folder."
        ) from error
    except OSError as error:
        note(f"{folder}: cannot be locked ({error.strerror}). See to it that nothing else trains there.")
        return
    held.truncate(0)
    held.write(f"{os.getpid()}\n".encode())
