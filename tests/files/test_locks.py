"""What only one process may write at a time: a second one is told who writes, and changes nothing."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.commands import run
from xvectors.errors import BusyError
from xvectors.files import exclusive
from xvectors.report import evaluate
from xvectors.training import train
from xvectors.training.calibrate import calibrate


@contextmanager
def held(lock: Path) -> Iterator[None]:
    """Held by another thread, as it would be by another process."""
    taken, done = threading.Event(), threading.Event()

    def hold() -> None:
        with exclusive(lock, of="it"):
            taken.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    taken.wait(60)
    try:
        yield
    finally:
        done.set()
        thread.join()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_system_that_is_being_written(calibrated_starter: Path, toy_corpus: Path, tmp_path: Path) -> None:
    before = contents(calibrated_starter)
    with held(calibrated_starter / ".lock"):
        with pytest.raises(BusyError, match=r"already writing it; wait until it ends, or choose another"):
            # before the corpus is looked at: this one is not there
            train(tmp_path / "nothing", calibrated_starter, overwrite=True)
        with pytest.raises(BusyError):
            train(None, calibrated_starter, resume=True)
        with pytest.raises(BusyError):
            calibrate(calibrated_starter, data=toy_corpus)
        assert {name: content for name, content in contents(calibrated_starter).items() if name != ".lock"} == before


def test_a_report_that_is_being_written(calibrated_starter: Path, toy_corpus: Path, tmp_path: Path) -> None:
    with held(tmp_path / "report" / ".lock"), pytest.raises(BusyError):
        evaluate(calibrated_starter, data=toy_corpus, out=tmp_path / "report")


def test_a_shard_that_is_being_written(calibrated_starter: Path, toy_corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "parts"
    arguments = (
        "embed",
        toy_corpus,
        "--system",
        calibrated_starter,
        "-o",
        f"{out}.parquet",
        "--device",
        "cpu",
        "--quiet",
    )
    with held(tmp_path / "parts.parquet" / ".shard-1-of-2.lock"):
        assert "shard 1 of 2" in run(*arguments, "--shard", "1/2", status=2).stderr
        run(*arguments, "--shard", "2/2")
    run(*arguments, "--shard", "1/2")
    assert not list(Path(f"{out}.parquet").glob("*.lock"))


@pytest.mark.slow
def test_of_two_trainings_into_one_folder_one_is_refused(toy_corpus: Path, tmp_path: Path) -> None:
    """The other ends as if it had been alone: both used to end with status 0 and leave a mixture."""

    def training(out: Path, seed: int) -> subprocess.Popen[str]:
        options = ["train", toy_corpus, "-o", out, "--recipe", "lab", "--set", "training.epochs=2"]
        options += ["--set", "model.size=0.5", "--set"]
        options += [f"training.seed={seed}", "--device", "cpu", "--quiet"]
        script = "import torch; torch.set_num_threads(1); from xvectors.cli import main; main()"
        command = [sys.executable, "-c", script, *map(str, options)]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    both = [training(tmp_path / "xv", seed) for seed in (1, 2)]
    said = [process.communicate()[1] for process in both]
    codes = [process.returncode for process in both]
    assert sorted(codes) == [0, 2], said
    winner, loser = codes.index(0), codes.index(2)
    assert f"process {both[winner].pid} on" in said[loser]
    assert "is writing it; wait until it ends, or choose another" in said[loser]
    alone = training(tmp_path / "alone", winner + 1)
    assert (alone.communicate(), alone.returncode)[1] == 0
    for name in ("model.safetensors", "corpus.csv", "speakers.csv"):
        assert (tmp_path / "xv" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes(), name


def test_a_holder_that_is_waited_for(tmp_path: Path) -> None:
    released = []
    with held(tmp_path / ".lock"):
        started = time.monotonic()
        with pytest.raises(BusyError), exclusive(tmp_path / ".lock", of="it", wait_s=0.2):
            pass
        assert time.monotonic() - started >= 0.2
        waiter = threading.Thread(target=lambda: released.append(_taken_within(tmp_path / ".lock", 60.0)))
        waiter.start()
    waiter.join()
    assert released == [True]


def _taken_within(lock: Path, wait_s: float) -> bool:
    with exclusive(lock, of="it", wait_s=wait_s):
        return True
