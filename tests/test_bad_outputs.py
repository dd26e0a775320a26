"""Outputs that cannot be written: one sentence that names the file, status 2, and what stood there stays."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from support.commands import run
from support.permissions import without_root
from xvectors.errors import StorageError
from xvectors.files import exclusive
from xvectors.gallery import SqliteStore

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="limits and permissions are those of POSIX")

COMMANDS = {
    "trials": ("trials", "emb.npz", "-o", "{out}.csv"),
    "trials as text": ("trials", "emb.npz", "-o", "{out}.txt"),
    "score": ("score", "emb.npz", "--trials", "s.csv", "-o", "{out}.csv"),
    "fuse": ("fuse", "s.csv", "s.csv", "--fit-on", "dev.csv", "--fit-on", "dev.csv", "-o", "{out}.csv"),
    "gallery import": ("gallery", "import", "g.sqlite", "--gallery", "{out}.sqlite"),
    "gallery export": ("gallery", "export", "-o", "{out}.sqlite", "--gallery", "g.sqlite"),
    "compare": ("compare", "s.csv", "other.csv", "-o", "{out}"),
}


@contextmanager
def full_disk() -> Iterator[None]:
    """No file can grow: every write fails, as on a full disk."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture(scope="module")
def inputs() -> Iterator[Path]:
    """Embeddings, scores of two systems, scores to learn from and a gallery, in a folder that everybody may enter."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        rng = np.random.default_rng(0)
        ids = [f"r{i}" for i in range(12)]
        np.savez(
            folder / "emb.npz",
            embeddings=rng.standard_normal((12, 8)).astype(np.float32),
            id=ids,
            path=ids,
            speaker=list("aabbccddeeff"),
            duration_s=np.full(12, 3.0),
            gender=np.full(12, -1, dtype=np.int8),
        )
        for file, letter in (("s.csv", "r"), ("other.csv", "r"), ("dev.csv", "q")):
            rows = [
                f"{letter}{i},{letter}{j},{int(i // 2 == j // 2)},{rng.standard_normal()}"
                for i in range(12)
                for j in range(i)
            ]
            (folder / file).write_text("\n".join(["enroll,test,target,llr", *rows]) + "\n")
        SqliteStore(folder / "g.sqlite", create=True).close()
        for path in folder.iterdir():
            path.chmod(0o666)
        yield folder


def fails(inputs: Path, command: str, out: Path) -> str:
    """What is said about an output that cannot be written."""
    words = [inputs / word if (inputs / word).is_file() else word.format(out=out) for word in COMMANDS[command]]
    printed = run(*words, status=2)
    assert printed.stdout == ""
    assert printed.stderr.startswith("error: ")
    assert printed.stderr.count("\n") == 1
    return printed.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_outputs_that_cannot_be_written(command: str, inputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(dir=inputs) as name:
        folder = Path(name)
        folder.chmod(0o777)
        monkeypatch.setenv("HOME", name)
        suffix = COMMANDS[command][-1 if "-o" in COMMANDS[command] else 2].removeprefix("{out}")
        suffix = ".sqlite" if "gallery" in command else suffix

        # a folder where a file is expected, a file where a folder is, and a file above either
        place = folder / f"place{suffix}"
        if suffix:
            place.mkdir()
        else:
            place.write_text("kept")
        assert str(place) in fails(inputs, command, folder / "place")
        assert (list(place.iterdir()) == []) if suffix else (place.read_text() == "kept")
        file = folder / "file"
        file.write_text("kept")
        assert "file is a file, not a folder" in fails(inputs, command, file / "out")
        assert file.read_text() == "kept"

        closed = folder / "closed"
        closed.mkdir(mode=0o555)
        with without_root():
            assert "ermission denied" in fails(inputs, command, closed / "out")
        assert list(closed.iterdir()) == []

        before = sorted(folder.iterdir())
        with full_disk():
            fails(inputs, command, folder / "full")
        left = set(folder.rglob("full*/*"))
        assert left == set()
        assert [path for path in sorted(folder.iterdir()) if path.is_file() and path not in before] == []


@pytest.mark.parametrize("command", ["trials", "trials as text", "score", "fuse", "gallery import"])
def test_a_full_disk_leaves_what_stood_there(command: str, inputs: Path) -> None:
    with tempfile.TemporaryDirectory(dir=inputs) as name:
        out = Path(name) / "kept"
        words = [inputs / word if (inputs / word).is_file() else word.format(out=out) for word in COMMANDS[command]]
        run(*words)
        (kept,) = Path(name).iterdir()
        before = kept.read_bytes()
        with full_disk():
            fails(inputs, command, out)
        # SQLite keeps its log beside a file that it could not write, and takes it in at the next use
        assert [path for path in Path(name).iterdir() if not path.name.endswith(("-wal", "-shm"))] == [kept]
        assert kept.read_bytes() == before


def test_a_lock_that_cannot_be_written_is_a_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    with (
        full_disk(),
        pytest.raises(StorageError, match="exp/xv: cannot be written"),
        exclusive(tmp_path / "exp" / ".lock", of="exp/xv"),
    ):
        pass
    assert list(tmp_path.iterdir()) == []
