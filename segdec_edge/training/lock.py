"""Who may train in a folder: one process at a time, or one group of them. Knows nothing of what is trained."""

from __future__ import annotations

import errno
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from segdec_edge.errors import TrainingError
from segdec_edge.files import lock_holder, storage_error, take_lock

LOCK = "training.lock"
_WITHOUT_LOCKS = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})


def hold(folder: Path, until: ExitStack, note: Callable[[str], None]) -> None:
    """Hold a folder's lock until the stack closes; the system frees it when the process ends, however it ends.

    A file system without locks is noted. Raises TrainingError where another process trains there, StorageError.
    """
    path = folder / LOCK
    try:
        take_lock(until.enter_context(path.open("ab", buffering=0)))
    except BlockingIOError as error:
        raise TrainingError(
            f"{folder}: another process trains there (process {lock_holder(path)}). Wait for it or stop it, or choose"
            " another folder."
        ) from error
    except OSError as error:
        if error.errno not in _WITHOUT_LOCKS:
            raise storage_error(path, error) from error
        note(f"{folder}: cannot be locked ({error.strerror}). See to it that nothing else trains there.")
