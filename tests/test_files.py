"""Files are whole or absent: on a full disk, with a failing writer, where nothing may be written, after a kill."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import BinaryIO

import pytest

from segdec_edge.errors import StorageError
from segdec_edge.files import (
    folder_atomic,
    make_folder,
    require_place,
    sha256_of,
    temporary_folder,
    write_atomic,
    write_together,
)


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def run_python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).resolve().parents[1]
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, "PYTHONPATH": str(root)},
    )  # fmt: skip


@pytest.mark.parametrize("content", ["grün", "grün".encode(), lambda file: file.write("grün".encode())])
def test_text_bytes_and_a_writer_all_write_the_same(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.txt"
    write_atomic(path, content)
    assert path.read_bytes() == "grün".encode()
    assert entries(tmp_path) == ["a.txt"]


def test_the_file_gets_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomic(tmp_path / "a", b"")
        with folder_atomic(tmp_path / "b"):
            pass
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "b").stat().st_mode) == 0o750


class WriterBroke(Exception):
    pass


def half_a_file(file: BinaryIO) -> None:
    file.write(b"half of the new")
    raise WriterBroke


def test_old_content_survives_a_failing_writer(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(WriterBroke):
        write_atomic(path, half_a_file)
    assert path.read_bytes() == b"old"
    assert entries(tmp_path) == ["a"]


def test_a_reader_that_has_the_old_file_open_keeps_it_whole(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with path.open("rb") as reader:
        write_atomic(path, b"new and longer")
        assert reader.read() == b"old"
    assert path.read_bytes() == b"new and longer"


def test_a_full_disk_leaves_the_old_file_and_no_rest(small_disk: Path) -> None:
    path = small_disk / "last.pt"
    write_atomic(path, b"old")
    with pytest.raises(StorageError, match=r"last\.pt: the disk is full, nothing was written\. Free some space"):
        write_atomic(path, bytes(2 << 20))
    assert path.read_bytes() == b"old"
    assert entries(small_disk) == ["last.pt"]
    write_atomic(path, bytes(1 << 19))  # the space of the failed attempt was given back


def test_a_full_disk_leaves_the_old_folder_and_no_rest(small_disk: Path) -> None:
    target = small_disk / "parts.bundle"
    with folder_atomic(target) as folder:
        (folder / "model.onnx").write_bytes(b"old")
    with pytest.raises(StorageError, match="the disk is full"), folder_atomic(target) as folder:
        (folder / "model.onnx").write_bytes(bytes(2 << 20))
    assert (target / "model.onnx").read_bytes() == b"old"
    assert entries(small_disk) == ["parts.bundle"]


def test_files_written_together_are_whole_or_absent(small_disk: Path) -> None:
    (small_disk / "a.png").touch()
    usual = (small_disk / "a.png").stat().st_mode
    write_together(small_disk, {"a.png": b"a", "a.jpg": b"b"})
    assert entries(small_disk) == ["a.jpg", "a.png"]
    assert (small_disk / "a.png").stat().st_mode == usual
    assert (small_disk / "a.jpg").read_bytes() == b"b"
    with pytest.raises(StorageError, match="small disk: the disk is full, nothing was written"):
        write_together(small_disk, {"b.png": b"b", "b.jpg": bytes(2 << 20)})
    assert entries(small_disk) == ["a.jpg", "a.png"]


def test_a_write_that_the_system_cuts_short_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    done = run_python(
        "import resource\n"
        "from pathlib import Path\n"
        "from segdec_edge.errors import StorageError\n"
        "from segdec_edge.files import write_atomic\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n"
        "    write_atomic(Path('a'), bytes(5000))\n"
        "except StorageError as error:\n"
        "    print(error)\n",
        tmp_path,
    )
    assert done.stdout == "a: cannot be written (File too large). Choose another place.\n", done.stderr
    assert (tmp_path / "a").read_bytes() == b"old"
    assert entries(tmp_path) == ["a"]


def test_a_kill_in_the_middle_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    done = run_python(
        "import os, signal\n"
        "from pathlib import Path\n"
        "from segdec_edge.files import write_atomic\n"
        "def half(file):\n"
        "    file.write(bytes(1 << 20))\n"
        "    file.flush()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_atomic(Path('a'), half)\n",
        tmp_path,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (tmp_path / "a").read_bytes() == b"old"
    assert [name for name in entries(tmp_path) if not name.startswith(".segdec_tmp_")] == ["a"]


def test_a_place_that_cannot_be_written_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    below_a_file = tmp_path / "file" / "a"
    for attempt in (lambda: write_atomic(below_a_file, b""), lambda: make_folder(below_a_file)):
        with pytest.raises(StorageError, match=r"file/a: cannot be written \(Not a directory\)") as caught:
            attempt()
        assert "\n" not in str(caught.value)
    with pytest.raises(StorageError, match="No such file or directory"):
        write_atomic(tmp_path / "absent" / "a", b"")
    with pytest.raises(StorageError, match="Is a directory"):
        write_atomic(tmp_path, b"")
    assert entries(tmp_path) == ["file"]


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="no /proc on this system")
def test_a_file_system_that_takes_no_files_is_told() -> None:
    with pytest.raises(StorageError, match="/proc/a: "):
        write_atomic(Path("/proc/a"), b"")
    with pytest.raises(StorageError, match="/proc/a: "):
        make_folder(Path("/proc/a"))
    with pytest.raises(StorageError, match="/proc/a: "), folder_atomic(Path("/proc/a")):
        pass


def test_a_read_only_disk_is_told_as_a_missing_permission(small_disk: Path) -> None:
    write_atomic(small_disk / "a", b"old")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for attempt in (lambda: write_atomic(small_disk / "a", b"new"), lambda: make_folder(small_disk)):
        with pytest.raises(StorageError, match="no permission to write there"):
            attempt()
    assert (small_disk / "a").read_bytes() == b"old"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match="no permission to write there"):
        write_atomic(tmp_path / "a", b"")
    tmp_path.chmod(0o700)


def test_a_new_folder_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "parts.bundle"
    with folder_atomic(target) as folder:
        (folder / "engines").mkdir()
        (folder / "engines" / "a").write_bytes(b"new")
        assert not target.exists()
    assert (target / "engines" / "a").read_bytes() == b"new"
    assert entries(tmp_path) == ["parts.bundle"]


@pytest.mark.parametrize("exchange", [True, False], ids=["exchange", "two renames"])
def test_an_existing_folder_is_exchanged_whole(tmp_path: Path, exchange: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not exchange:  # no file system without it can be counted on in a test
        monkeypatch.setattr("segdec_edge.files._exchange", lambda first, second: False)
    target = tmp_path / "parts.bundle"
    target.mkdir()
    (target / "old").write_bytes(b"")
    with folder_atomic(target) as folder:
        (folder / "new").write_bytes(b"")
        assert entries(target) == ["old"]
    assert entries(target) == ["new"]
    assert entries(tmp_path) == ["parts.bundle"]


def test_a_failure_while_filling_leaves_the_old_folder(tmp_path: Path) -> None:
    target = tmp_path / "parts.bundle"
    target.mkdir()
    (target / "old").write_bytes(b"")
    with pytest.raises(WriterBroke), folder_atomic(target) as folder:
        (folder / "new").write_bytes(b"")
        raise WriterBroke
    assert entries(target) == ["old"]
    assert entries(tmp_path) == ["parts.bundle"]


def test_a_file_in_the_folders_place_is_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "parts.bundle"
    target.write_bytes(b"mine")
    with pytest.raises(StorageError, match="it is a file, wanted a folder"), folder_atomic(target):
        pytest.fail("nothing should be made for it")
    assert target.read_bytes() == b"mine"
    assert entries(tmp_path) == ["parts.bundle"]


def test_make_folder_makes_parents_and_leaves_nothing_in_them(tmp_path: Path) -> None:
    assert make_folder(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert entries(tmp_path / "a" / "b") == []
    (tmp_path / "a" / "kept").write_bytes(b"")
    assert entries(make_folder(tmp_path / "a")) == ["b", "kept"]


def test_a_temporary_folder_vanishes_and_names_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with temporary_folder("x_") as folder:
        (folder / "model.onnx").write_bytes(b"model")
        assert folder.parent == tmp_path
    assert entries(tmp_path) == []
    told = pytest.raises(StorageError, match=f"{tmp_path}: the disk is full")
    with told, temporary_folder("x_"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert entries(tmp_path) == []
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(StorageError, match="none: cannot be written"), temporary_folder("x_"):
        pytest.fail("there is no such folder")


def test_sha256_is_that_of_the_content(tmp_path: Path) -> None:
    content = bytes(range(256)) * 10_000  # more than one reading step
    (tmp_path / "a").write_bytes(content)
    assert sha256_of(tmp_path / "a") == hashlib.sha256(content).hexdigest()


def test_a_place_is_refused_before_long_work(tmp_path: Path) -> None:
    require_place(tmp_path / "new.json")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "none" / "new.json", tmp_path / "folder"):
        with pytest.raises(StorageError, match="cannot be written"):
            require_place(path)
    assert entries(tmp_path) == ["folder"]
