"""Training by several processes: what they compute together is what one process computes alone."""

from __future__ import annotations

import csv
import math
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from support import process_group, steps_on_shares
from support.training import SMALL, assert_same, small, watched_steps, weights_of
from xvectors.errors import ConfigError
from xvectors.training import train
from xvectors.training.distributed import ALONE, VARIABLES, Group
from xvectors.training.learner import Learner

TOGETHER = (
    *SMALL,
    # Small steps of SGD, after which the rounding of float32 is still small, on two batches of 19 each epoch: BatchNorm
    # over a last batch of two has no gradient but rounding.
    "training.batch_size=19",
    "training.optimizer=sgd",
    "training.learning_rate=1e-5",
    "data.train_test_prop=1.0",
    "data.held_out_prop=0.4",
    "data.train_val_prop=0.8",
    "augment.spec_augment_prob=0.5",
)
"""Recipe settings of runs that are compared: 6 speakers are trained, and 4 held out."""
LONG = ("--set", "training.epochs=12", "--set", "training.checkpoint_interval_s=0")
KILLS = int(os.environ.get("XVECTORS_KILLS", "2"))


@pytest.mark.parametrize("num_ranks", [1, 2, 3, 4, 8])
def test_shares_make_up_the_batch(num_ranks: int) -> None:
    for total in range(2, 40):
        shares = [list(range(total))[Group(rank, num_ranks).share(total)] for rank in range(num_ranks)]
        assert sorted(chunk for share in shares for chunk in share) == list(range(total))
        sizes = [len(share) for share in shares if share]
        assert min(sizes) >= 2
        assert max(sizes) - min(sizes) <= 1


def test_the_environment_of_torchrun_tells_the_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    assert Group.from_environment() == ALONE
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    for number, name in enumerate(VARIABLES):
        monkeypatch.setenv(name, str(number))
    assert Group.from_environment() == Group(rank=0, num_ranks=1, local_rank=2, num_local=3)
    monkeypatch.delenv("LOCAL_RANK")
    with pytest.raises(ConfigError, match=r"LOCAL_RANK.*torchrun --nproc-per-node"):
        Group.from_environment()


def test_what_cannot_be_shared_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"cpu:0.*3 processes"):
        Group(0, 3, 0, 3).find_device("cpu:0")
    with pytest.raises(ConfigError, match=r"training.batch_size = 16 .*at least 18"):
        Learner(small(), 4, torch.device("cpu"), Group(0, 9, 0, 9))


def test_processes_divide_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xvectors.training.distributed.usable_cores", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as torchrun sets it
    assert [Group(0, n, 0, n).num_threads() for n in (2, 3, 16)] == [4, 2, 1]
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert Group(0, 2, 0, 2).num_threads() == 3


def each_rank(num_ranks: int, what: str, out: Path) -> list[dict[str, torch.Tensor]]:
    process_group.run(num_ranks, steps_on_shares.__file__, what, out)
    return [torch.load(out / f"{rank}.pt", weights_only=True) for rank in range(num_ranks)]


@pytest.mark.slow
def test_shares_of_a_step_have_the_gradients_of_the_whole_batch(tmp_path: Path) -> None:
    """Losses, gradients, running statistics and masks, with unequal shares and an idle process."""
    alone = steps_on_shares.of_steps(ALONE)
    for together in each_rank(2, "of_steps", tmp_path):
        assert together.keys() == alone.keys()
        for name, value in together.items():
            limit = 1e-5 if "measures" in name else 1e-6  # the loss is computed in float32
            assert float((value - alone[name]).abs().max()) <= limit * max(1e-3, float(alone[name].abs().max())), name


@pytest.mark.slow
@pytest.mark.parametrize("num_ranks", [2, 4])
def test_fifty_steps_end_with_the_weights_of_one_process(num_ranks: int, tmp_path: Path) -> None:
    """2 x 32 and 4 x 16 chunks against 1 x 64, with Adam, averaged weights included.

    In float64: in float32 the weights drift apart as rounding does. A BatchNorm after the pooling amplifies it a
    thousand times, and Adam makes steps of full size out of gradients that are only rounding.
    """
    alone = steps_on_shares.after_many_steps(ALONE)
    for together in each_rank(num_ranks, "after_many_steps", tmp_path):
        assert together.keys() == alone.keys()
        assert max(float((together[key].double() - alone[key].double()).abs().max()) for key in alone) <= 1e-6


def history_of(folder: Path) -> list[dict[str, float]]:
    with (folder / "history.csv").open() as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def command(data: object, out: Path, *more: str) -> list[object]:
    settings = [word for setting in TOGETHER for word in ("--set", setting)]
    given = [] if data is None else [data]
    return ["-m", "xvectors", "train", *given, "-o", out, "--recipe", "xvector", *settings, *more, "--device", "cpu"]


def furthest(one: Path, two: Path) -> float:
    """Return the largest difference of weights, relative to the largest weight of their layer."""
    first, second = weights_of(one), weights_of(two)
    assert first.keys() == second.keys()
    return max(
        float((first[key].double() - second[key].double()).abs().max() / first[key].double().abs().max().clamp(min=0.1))
        for key in first
    )


def assert_alike(one: Path, two: Path) -> None:
    """Assert that two systems have the same history and weights within the rounding of a few small steps."""
    first, second = history_of(one), history_of(two)
    assert len(first) == len(second) == 3
    for here, there in zip(first, second, strict=True):
        for key in ("train_loss", "val_loss", "learning_rate"):
            assert math.isclose(here[key], there[key], abs_tol=2e-3), key
        # rounding moves some of the 1,995 trials
        assert math.isclose(here["val_eer"], there["val_eer"], abs_tol=0.01)
    assert furthest(one, two) < 1e-3


@pytest.mark.slow
def test_a_run_of_two_processes_is_that_of_one(toy_corpus: Path, tmp_path: Path) -> None:
    train(toy_corpus, tmp_path / "one", small(*TOGETHER), device="cpu")
    first, second = process_group.run(2, *command(toy_corpus, tmp_path / "two"))
    assert "Epoch [03/03]" in first.stdout
    assert second.stdout == ""
    assert_alike(tmp_path / "one", tmp_path / "two")
    for name in ("calibration.toml", "backend.npz", "corpus.csv", "speakers.csv"):
        assert (tmp_path / "two" / name).is_file()


@pytest.mark.slow
def test_another_number_of_processes_goes_on_from_the_middle_of_an_epoch(toy_corpus: Path, tmp_path: Path) -> None:
    recipe = small(*TOGETHER)
    train(toy_corpus, tmp_path / "one", recipe, device="cpu", calibrate=False)
    with watched_steps(interrupt_at=4):
        train(toy_corpus, tmp_path / "cut", recipe, device="cpu")
    process_group.run(4, "-m", "xvectors", "train", "-o", tmp_path / "cut", "--resume", "--device", "cpu", "--quiet")
    assert_alike(tmp_path / "one", tmp_path / "cut")


@pytest.mark.slow
def test_sigterm_saves_and_the_resumed_run_is_the_uninterrupted_one(toy_corpus: Path, tmp_path: Path) -> None:
    """torchrun gets the signal, and passes it on to its processes, which are at different places of a step."""
    process_group.run(2, *command(toy_corpus, tmp_path / "whole", *LONG))
    stopped = torchrun(toy_corpus, tmp_path / "cut")
    wait_for(lambda: (tmp_path / "cut" / "history.csv").exists())
    stopped.send_signal(signal.SIGTERM)
    output, _ = stopped.communicate(timeout=process_group.LONGEST_S)
    assert stopped.returncode != 0
    assert "interrupted by SIGTERM; the state is saved" in output
    process_group.run(2, "-m", "xvectors", "train", "-o", tmp_path / "cut", "--resume", "--device", "cpu", "--quiet")
    assert_same(weights_of(tmp_path / "cut"), weights_of(tmp_path / "whole"))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the processes that torchrun starts in /proc")
def test_a_killed_process_ends_the_run_which_goes_on_from_its_checkpoint(toy_corpus: Path, tmp_path: Path) -> None:
    """kill -9 of one of torchrun's two processes at random moments; the run ends as if nothing had happened.

    By hand, more often: XVECTORS_KILLS=20 python -m pytest tests/training/test_distributed.py -m slow -k killed
    """
    process_group.run(2, *command(toy_corpus, tmp_path / "whole", *LONG))
    out, generator = tmp_path / "cut", random.Random(0)
    for _ in range(KILLS):
        has_saved = (out / "state" / "checkpoint.pt").exists()
        run = torchrun(None if has_saved else toy_corpus, out, "--resume" if has_saved else "--overwrite")
        wait_for(lambda run=run: len(children(run)) == 2 or run.poll() is not None)
        time.sleep(generator.uniform(0, 30))
        alive = children(run)
        if alive:
            os.kill(generator.choice(alive), signal.SIGKILL)
        output, _ = run.communicate(timeout=process_group.LONGEST_S)
        assert not alive or (run.returncode != 0 and "Signal 9 (SIGKILL)" in output), output
    has_saved = (out / "state" / "checkpoint.pt").exists()
    begin = command(None if has_saved else toy_corpus, out, *LONG, "--resume" if has_saved else "--overwrite")
    process_group.run(2, *begin)
    assert_same(weights_of(out), weights_of(tmp_path / "whole"))


def children(run: subprocess.Popen[str]) -> list[int]:
    found = Path(f"/proc/{run.pid}/task/{run.pid}/children")
    try:
        return [int(pid) for pid in found.read_text().split()]
    except OSError:  # it has ended
        return []


def torchrun(data: Path | None, out: Path, *more: str) -> subprocess.Popen[str]:
    options = ("--nproc-per-node", "2", "--master-port", str(process_group.free_port()))
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", *options, *map(str, command(data, out, *LONG, *more))],
        env={**os.environ, "PYTHONPATH": str(process_group.SOURCES)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + process_group.LONGEST_S
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)
