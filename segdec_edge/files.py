"""Files that are either whole or absent: write beside, fsync, rename. Knows no format."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile, gettempdir, mkdtemp, mkstemp
from typing import BinaryIO

from segdec_edge.errors import StorageError

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def write_atomic(path: Path, content: bytes | str | Callable[[BinaryIO], None]) -> None:
    """Write a file so that a reader sees the old content or the whole new one, also after a power cut.

    content: bytes, text (UTF-8), or a function that writes to the open file.
    Raises StorageError (disk full, no permission, missing folder); the old file is untouched then.
    """
    data = content.encode() if isinstance(content, str) else content
    beside: Path | None = None
    try:
        descriptor, name = mkstemp(prefix=f".segdec_tmp_{path.name}_", dir=path.parent)
        beside = Path(name)
        with os.fdopen(descriptor, "wb") as file:
            if callable(data):
                data(file)
            else:
                file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.chmod(0o666 & ~_umask())
        beside.replace(path)
        beside = None
        fsync_folder(path.parent)
    except OSError as error:
        raise storage_error(path, error) from error
    finally:
        if beside is not None:
            beside.unlink(missing_ok=True)


def require_place(path: Path) -> None:
    """Refuse before long work what write_atomic() would refuse after it: no folder, no permission, a folder there.

    Raises StorageError.
    """
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder, wanted a file")
        with TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise storage_error(path, error) from error


def write_together(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write files, by their names; each is whole or absent, also after a power cut, which may take the newest ones.

    For what is written often and may be missed: half of what write_atomic() for each costs, for the folder is not
    waited for, and the disk gets all contents at once. Raises StorageError.
    """
    beside: dict[Path, Path] = {}
    try:
        for name, content in contents.items():
            descriptor, unfinished = mkstemp(prefix=f".segdec_tmp_{name}_", dir=folder)
            beside[folder / name] = Path(unfinished)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
        for unfinished_path in beside.values():
            unfinished_path.chmod(0o666 & ~_umask())
            _fsync(unfinished_path)
        for path, unfinished_path in beside.items():
            unfinished_path.replace(path)
        beside.clear()
    except OSError as error:
        raise storage_error(folder, error) from error
    finally:
        for unfinished_path in beside.values():
            unfinished_path.unlink(missing_ok=True)


@contextmanager
def folder_atomic(path: Path) -> Iterator[Path]:
    """Give an empty folder to fill; on success it becomes `path` in one step, on failure it vanishes.

    An existing folder at `path` is exchanged, then removed, whatever it holds: the caller makes sure that it may go.
    Raises StorageError, also where `path` is a file; the old folder is untouched then.
    """
    beside: Path | None = None
    try:
        if path.exists() and not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "it is a file, wanted a folder")
        beside = Path(mkdtemp(prefix=f".segdec_tmp_{path.name}_", dir=path.parent))
        beside.chmod(0o777 & ~_umask())
        yield beside
        for file in sorted(beside.rglob("*")):
            _fsync(file)
        fsync_folder(beside)
        _swap_in(beside, path)
        fsync_folder(path.parent)
    except OSError as error:
        raise storage_error(path, error) from error
    finally:
        if beside is not None:
            shutil.rmtree(beside, ignore_errors=True)


@contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """A folder that vanishes with what lies in it. Raises StorageError where the disk of temporary files is full."""
    try:
        with TemporaryDirectory(prefix=prefix) as folder:
            yield Path(folder)
    except OSError as error:
        raise storage_error(Path(gettempdir()), error) from error


def make_folder(path: Path) -> Path:
    """Create a folder with its parents. Raises StorageError where that, or writing into it, is not allowed."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        descriptor, probe = mkstemp(prefix=".segdec_tmp_", dir=path)
        try:
            os.close(descriptor)
        finally:
            Path(probe).unlink()
    except OSError as error:
        raise storage_error(path, error) from error
    return path


@contextmanager
def folder_for(path: Path) -> Iterator[Path]:
    """A folder, with its parents, for what is done inside; those that are new and still empty in the end vanish.

    Made at once, so that a place where nothing can be written is refused before long work. Raises StorageError.
    """
    new = [one for one in (path, *path.parents) if not one.exists()]
    try:
        yield make_folder(path)
    finally:
        with suppress(OSError):  # something lies in it by now
            for one in new:
                one.rmdir()


def storage_error(path: Path, error: OSError) -> StorageError:
    """One line for the user: what could not be written, why, what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(
            f"{path}: the disk is full, nothing was written. Free some space and run the command again."
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return StorageError(f"{path}: no permission to write there. Choose another folder, or change its owner.")
    return StorageError(f"{path}: cannot be written ({error.strerror or error}). Choose another place.")


def take_lock(held: FileIO) -> None:
    """Lock an open file for this process and write its number there; the system frees it when the process ends.

    held: unbuffered, as a buffer would fail again at close on a full disk. Raises BlockingIOError where another process
    holds it (see lock_holder), OSError where the file system has no locks or no room.
    """
    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    held.truncate(0)
    held.write(f"{os.getpid()}\n".encode())


def lock_holder(path: Path) -> str:
    """The number of the process that holds a lock file, or "unknown"."""
    return path.read_text(encoding="ascii", errors="replace").strip() or "unknown"


def fsync_folder(path: Path) -> None:
    """Make a rename inside a folder durable."""
    _fsync(path)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _swap_in(new: Path, target: Path) -> None:
    """Put `new` at `target`. An old folder there ends up at `new`, from where the caller removes it."""
    if not target.exists():
        new.rename(target)
    elif not _exchange(new, target):  # a file system without RENAME_EXCHANGE: a moment without either, but no loss
        aside = target.with_name(f".segdec_tmp_{target.name}_old_{os.getpid()}")
        target.rename(aside)
        new.rename(target)
        shutil.rmtree(aside)


def _exchange(first: Path, second: Path) -> bool:
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        return False
    done = rename(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE)
    return int(done) == 0


def from_home(path: str | Path) -> Path:
    """The path with a leading ~ resolved; the ~ of a user who is not there stays, and then no such file is found."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)
