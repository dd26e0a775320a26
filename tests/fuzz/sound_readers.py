"""Damaged recordings, read in every way in a process that may die of it. In: names, a range of seeds. Out: faults.

A recording is read, or refused by an XVectorsError; within LIMIT_S and LIMIT_BYTES; and ways agree about it.
By hand: `python tests/fuzz/sound_readers.py SECONDS [NAME ...] [--seed N]`.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import numpy as np  # noqa: E402
from sound_files import damaged, sound_files  # noqa: E402

from xvectors import audio  # noqa: E402
from xvectors.corpus.findings import examine  # noqa: E402
from xvectors.errors import XVectorsError  # noqa: E402

LIMIT_S = 10.0
"""What one damaged recording may take: hundreds of times what a whole one takes, on a slow and busy machine."""
LIMIT_BYTES = 1 << 30
START_S = 60.0


@dataclass
class Outcome:
    """How many recordings were tried, how many of them were refused, and the faults: what and where, with the seeds."""

    tried: int = 0
    refused: int = 0
    faults: dict[str, list[int]] = field(default_factory=dict)


def recording(seed: int, names: Sequence[str], files: dict[str, bytes]) -> bytes:
    """The damaged recording of this seed; the names take turns."""
    name = names[seed % len(names)]
    return damaged(files[name], random.Random(seed), list(files.values()))


def read_in_every_way(content: bytes, path: Path) -> bool:
    """Whether it was refused. AssertionError where two ways differ, any other error as it comes."""
    path.write_bytes(content)
    ways = (
        lambda: audio.probe(path),
        lambda: audio.probe(content),
        lambda: audio.read(path),
        lambda: audio.read(content),
    )
    info, again, whole, same = (_tried(way) for way in ways)
    finding = examine(path, 0.0, None, contents=True)
    if isinstance(info, XVectorsError):
        assert isinstance(whole, XVectorsError), "refused by probe, then read"
        assert finding.fault is not None, "refused by probe, kept by scan"
        return True
    is_refused = isinstance(whole, XVectorsError)
    # of a damaged page libopusfile makes now this, now that
    if is_refused and content[:4] != b"OggS":
        assert finding.fault is not None, "refused by read, kept by scan"
    if not is_refused:
        samples, rate_hz = whole
        assert samples.dtype == np.float32
        assert (len(samples), rate_hz) == (info.num_frames, info.sample_rate_hz), "read and probe differ"
    # libraries that are given a file forgive some headers that they refuse in memory
    if not (is_refused or isinstance(again, XVectorsError) or isinstance(same, XVectorsError)):
        assert again == info, "probe of bytes and of their file differ"
        assert np.array_equal(same[0], samples, equal_nan=True), "bytes and their file differ"
    for way in (
        lambda: sum(len(block) for block in audio.blocks(path, block_s=0.11)),
        lambda: sum(len(block) for block in audio.stream(path, sample_rate_hz=info.sample_rate_hz, block_s=0.07)),
    ):
        count = _tried(way)
        assert isinstance(count, XVectorsError) or count == info.num_frames, f"{count} samples, block by block"
    _tried(lambda: audio.read(path, start_s=info.duration_s / 2, duration_s=0.05, sample_rate_hz=8000))
    return is_refused


def _tried(way: Callable[[], Any]) -> Any:
    """What it returns, or the error that a user would see."""
    try:
        return way()
    except XVectorsError as error:
        return error


def _serve(first: int, count: int, names: Sequence[str]) -> None:
    """Try seeds, one after the other; a line before and after each says so."""
    files = sound_files()
    names = names or list(files)
    _limit_memory()
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    sys.stderr = os.fdopen(os.dup(2), "w")  # for a traceback; what libraries print is lost
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "recording")
        for seed in range(first, first + count):
            answers.write(f"{seed}\n")
            answers.write(f"{read_in_every_way(recording(seed, names, files), path)}\n")


def _limit_memory() -> None:
    if sys.platform != "linux":
        return
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + LIMIT_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def fuzz(first: int, count: int, *, names: Sequence[str] = (), seconds: float = math.inf) -> Outcome:
    """Try `count` seeds from `first` on, for so long at most. A process that dies is started again."""
    outcome, seed, end, until = Outcome(), first, first + count, time.monotonic() + seconds
    while seed < end and time.monotonic() < until:
        seed = _until_it_dies(seed, end, names, until, outcome)
    return outcome


def _until_it_dies(first: int, end: int, names: Sequence[str], until: float, outcome: Outcome) -> int:
    """The seed to go on with."""
    command = [sys.executable, __file__, "--serve", str(first), str(end - first), *names]
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        assert process.stdout is not None
        seed, is_trying, overran = first, False, False
        while True:
            if not is_trying and time.monotonic() > until:
                process.kill()
                return seed
            limit_s, began = LIMIT_S if is_trying else START_S, time.monotonic()
            timer = threading.Timer(limit_s, process.kill)
            timer.start()
            line = process.stdout.readline()
            timer.cancel()
            overran = time.monotonic() - began >= limit_s
            if not line:
                break
            is_trying = not is_trying
            if not is_trying:
                outcome.tried += 1
                outcome.refused += line == "True\n"
                seed += 1
        status = process.wait()
        errors.seek(0)
        text = errors.read()
    if seed < end:
        assert is_trying, f"the process does not start: {text}"
        fault = f"more than {LIMIT_S:g} s" if overran else _last_error(text) or f"process ended with status {status}"
        outcome.faults.setdefault(fault, []).append(seed)
        outcome.tried += 1
    return seed + 1


def _last_error(text: str) -> str:
    """The last line of a traceback, and where in the package it began."""
    places = re.findall(r"/xvectors/(?:.*/)?(\w+\.py)\", line (\d+)", text)
    return ":".join(places[-1] if places else ()) + " " + text.splitlines()[-1] if text else ""


def main() -> None:
    if sys.argv[1:2] == ["--serve"]:
        _serve(int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seconds", type=float)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    outcome = fuzz(options.seed, 1 << 40, names=options.names, seconds=options.seconds)
    number = sum(map(len, outcome.faults.values()))
    sys.stdout.write(f"{outcome.tried} tried, {outcome.refused} refused, {number} faults\n")
    for fault, seeds in outcome.faults.items():
        sys.stdout.write(f"{len(seeds):5d}  {fault}  {seeds[:6]}\n")


if __name__ == "__main__":
    main()
