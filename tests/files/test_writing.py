from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from xvectors.errors import BusyError, StorageError
from xvectors.files import atomic_write, exclusive, is_leftover, temporary_path, write_text


def test_the_new_file_appears_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.txt"
    write_text(path, "one\n")
    write_text(path, "two\n")
    assert path.read_text() == "two\n"
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]


def test_an_exception_leaves_the_old_file_and_no_rest(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "old")

    def fail() -> None:
        with atomic_write(path) as temporary:
            temporary.write_text("half")
            raise KeyError("stop")

    with pytest.raises(KeyError):
        fail()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]


def test_a_full_disk_is_said_and_the_old_file_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"file\.txt: cannot be written: No space left.*existing file is intact"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="cannot be written"):
        write_text(tmp_path / "file" / "inside.txt", "y")


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_what_is_private_is_its_owners_alone_even_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "voices.npz"
    with atomic_write(path, private=True) as temporary:
        assert temporary.stat().st_mode & 0o777 == 0o600
        temporary.write_bytes(b"1")
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)  # the owner's choice is kept
    write_text(path, "2", private=True)
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("2", 0o640)


@pytest.mark.skipif(os.name != "posix", reason="kills with SIGKILL")
def test_what_a_killed_process_left_is_removed_at_the_next_writing(tmp_path: Path) -> None:
    """But not what a process that runs is writing, nor what is of another machine, nor other hidden files."""
    script = """
import os, sys
from xvectors.files import atomic_write
with atomic_write(sys.argv[1]) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), 9)
"""
    path = tmp_path / "file.txt"
    assert subprocess.run([sys.executable, "-c", script, str(path)]).returncode == -9
    (leftover,) = tmp_path.iterdir()
    assert is_leftover(leftover)
    elsewhere = tmp_path / leftover.name.replace(leftover.name.split(".")[2][:8], "00000000", 1)
    own, hidden = temporary_path(path), tmp_path / ".hidden.txt"
    for other in (elsewhere, own, hidden):
        other.write_text("x")
    write_text(path, "whole")
    assert set(tmp_path.iterdir()) == {path, elsewhere, own, hidden}


HOLD = """
import sys, time
from xvectors.files import exclusive
with exclusive(sys.argv[1], of="exp/xv"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_names_who_holds_it_and_ends_with_the_process(tmp_path: Path) -> None:
    lock = tmp_path / "exp" / ".lock"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(lock)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with (
            pytest.raises(BusyError, match=rf"exp/xv: process {other.pid} on .* is writing it"),
            exclusive(lock, of="exp/xv"),
        ):
            pass
        other.kill()
    with exclusive(lock, of="exp/xv"), exclusive(lock, of="exp/xv"):  # the same thread may take it twice
        with ThreadPoolExecutor(1) as pool:
            assert isinstance(pool.submit(_take, lock).exception(), BusyError)
        assert lock.exists()
    assert list(tmp_path.iterdir()) == [lock.parent]  # the killed process made it
    assert not lock.exists()


def _take(lock: Path) -> None:
    with exclusive(lock, of="it"):
        pass


def test_a_lock_leaves_no_folder_that_it_made(tmp_path: Path) -> None:
    with exclusive(tmp_path / "a" / "b" / ".lock", of="b"):
        (tmp_path / "a" / "kept").write_text("x")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["kept"]


@pytest.mark.slow
def test_a_lock_is_held_by_one_of_many(tmp_path: Path) -> None:
    """Six processes take and free it 300 times each; a file that exists while it is held is never found by another."""
    script = """
import sys
from pathlib import Path
from xvectors.errors import BusyError
from xvectors.files import exclusive
inside, taken = Path(sys.argv[1] + ".inside"), 0
while taken < 300:
    try:
        with exclusive(sys.argv[1], of="it"):
            inside.touch(exist_ok=False)
            inside.unlink()
            taken += 1
    except BusyError:
        pass
"""
    processes = [subprocess.Popen([sys.executable, "-c", script, str(tmp_path / ".lock")]) for _ in range(6)]
    assert [process.wait() for process in processes] == [0] * 6
