"""What an import leaves on disk: for later calls, after a kill, beside a second process, on a full disk."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from support.commands import run
from support.formula_weights import formula_state
from xvectors import SpeakerEncoder
from xvectors.errors import CheckpointError
from xvectors.files import writing
from xvectors.models import XVector
from xvectors.system import SystemFolder, find_system
from xvectors.system.importers import importing
from xvectors.system.serialization import read_description

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no SIGKILL and no fork")

WAVE = np.sin(np.arange(16_000) / 9).astype(np.float32)


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The exercise's network, small; the user's cache is the folder `cache` beside it."""
    monkeypatch.setattr(importing, "user_folder", lambda kind: tmp_path / "cache")
    path = tmp_path / "model.pt"
    torch.save(formula_state(XVector(0.02, num_speakers=2, embedding_dim=8)), path)
    return path


def forked(work: Callable[[], object]) -> int:
    """Start a process that runs `work`; returns its number."""
    child = os.fork()
    if child:
        return child
    try:
        work()
        os._exit(0)
    finally:
        os._exit(1)


def ended(process: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def cached(checkpoint: Path) -> list[Path]:
    """The folders in the cache that the next call would take for an imported system."""
    return [path.parent for path in (checkpoint.parent / "cache" / "imported").glob("*/system.toml")]


@contextmanager
def at_sync(number: int, act: Callable[[], object]) -> Iterator[list[int]]:
    """Do something before the sync of file or folder `number`, from 1; yields the count of them as a list."""
    synced = [0]
    original = os.fsync

    def sync(descriptor: int) -> None:
        synced[0] += 1
        if synced[0] == number:
            act()
        original(descriptor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", sync)
        yield synced


def test_a_second_call_takes_what_the_first_imported(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = find_system(checkpoint)
    assert cached(checkpoint) == [first.path]
    expected = SpeakerEncoder.from_pretrained(checkpoint, device="cpu").encode(WAVE, sample_rate_hz=16_000)
    monkeypatch.setattr(importing, "convert", lambda *arguments: pytest.fail("imported again"))
    assert find_system(checkpoint).path == first.path
    again = SpeakerEncoder.from_pretrained(checkpoint, device="cpu").encode(WAVE, sample_rate_hz=16_000)
    assert np.array_equal(again, expected)


def test_another_file_of_the_same_name_is_another_system(checkpoint: Path) -> None:
    first = find_system(checkpoint)
    torch.save(formula_state(XVector(0.02, num_speakers=2, embedding_dim=4)), checkpoint)
    assert find_system(checkpoint).path != first.path
    assert len(cached(checkpoint)) == 2


def test_an_import_that_is_killed_is_not_taken_for_complete(checkpoint: Path) -> None:
    with at_sync(0, lambda: None) as count:
        expected = SpeakerEncoder.from_pretrained(find_system(checkpoint).path, device="cpu").fingerprint
    total = count[0]
    assert total == 6, "weights, speakers.csv and system.toml, and the folder after each"
    for number in (1, 3, 5, 6):
        for path in cached(checkpoint):
            for file in path.iterdir():
                file.unlink()

        def killed(number: int = number) -> None:
            with at_sync(number, lambda: os.kill(os.getpid(), signal.SIGKILL)):
                find_system(checkpoint)

        assert ended(forked(killed)) == -signal.SIGKILL
        assert len(cached(checkpoint)) == (number == total), f"killed at sync {number}: system.toml is written last"
        writing._remove_leftovers_once.cache_clear()  # as in a new process
        system = find_system(checkpoint)
        assert SpeakerEncoder.from_pretrained(system.path, device="cpu").fingerprint == expected
        assert {path.name for path in system.path.iterdir()} - {".lock"} == {
            *("model.safetensors", "speakers.csv", "system.toml"),
        }


def test_two_processes_at_once_import_once(checkpoint: Path) -> None:
    """The second waits for the first, instead of failing or writing into the same folder."""
    read, write = os.pipe()

    def imports() -> None:
        with at_sync(1, lambda: os.write(write, b"x")):
            read_description(find_system(checkpoint))

    processes = [forked(imports) for _ in range(2)]
    assert [ended(process) for process in processes] == [0, 0]
    os.close(write)
    assert os.read(read, 10) == b"x", "one of them wrote"
    os.close(read)
    assert len(cached(checkpoint)) == 1


@pytest.mark.parametrize("number", [1, 3, 5])
def test_a_disk_that_fills_up(checkpoint: Path, tmp_path: Path, number: int) -> None:
    """At the weights, at speakers.csv and at system.toml."""
    output = tmp_path / "exp" / "system"

    def full() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with at_sync(number, full):
        said = run("import", checkpoint, "-o", output, status=2).stderr.splitlines()[-1]
    assert said.startswith(f"error: {output}{os.sep}")
    assert said.endswith("cannot be written: No space left on device")
    assert not (tmp_path / "exp").exists(), "neither the folder nor the one made for it"
    with pytest.raises(CheckpointError, match="no such folder"):
        read_description(SystemFolder(output))
    run("import", checkpoint, "-o", output)
    assert read_description(SystemFolder(output)).origin


def test_a_real_limit_on_files(checkpoint: Path, tmp_path: Path) -> None:
    import resource

    output = tmp_path / "system"
    output.mkdir()
    (output / "notes.txt").write_text("of the user")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, hard))
    try:
        said = run("import", checkpoint, "-o", output, status=2).stderr.splitlines()[-1]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert said == f"error: {output / 'model.safetensors'}: cannot be written: {os.strerror(errno.EFBIG)}"
    assert [path.name for path in output.iterdir()] == ["notes.txt"]
    run("import", checkpoint, "-o", output)
    assert read_description(SystemFolder(output)).origin
