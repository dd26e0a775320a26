"""How long `xvectors evaluate --scores` takes for a score file of 100 million lines, and how much memory.

    python benchmarks/score_files.py [--lines 100000000] [--by-line 1000000] [--folder /tmp] [--json FILE]

Writes a file of `enroll test score label` lines, 5.6 GB for 100 million, measures it in a process of its own, and
removes it. The bar: under 30 s and under 4 GB on two cores, the start of Python included. `--by-line` is how many lines
are also read line by line, for comparison. Names are of 1,000 speakers, 20 recordings each; 2 % are target trials.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xvectors.trials.score_bulk import read_bulk
from xvectors.trials.score_lines import form_of, read_lines

SPEAKERS, RECORDINGS = 1_000, 20
TARGETS = 0.02
VARIANCE = 10.0
LINES_AT_A_TIME = 1_000_000


def write_scores(path: Path, lines: int) -> None:
    """Names as VoxCeleb's, calibrated LLRs with an EER of about 5.7 %."""
    import pyarrow as pa
    from pyarrow import csv

    rng = np.random.default_rng(0)
    names = pa.array([f"id{10_000 + s}/{u:05d}.wav" for s in range(SPEAKERS) for u in range(RECORDINGS)])
    labels = pa.array(["nontarget", "target"])
    columns = pa.schema(
        [("enroll", pa.string()), ("test", pa.string()), ("score", pa.float32()), ("label", pa.string())]
    )
    options = csv.WriteOptions(include_header=False, delimiter=" ", quoting_style="none")
    with csv.CSVWriter(path, columns, write_options=options) as writer:
        for start in range(0, lines, LINES_AT_A_TIME):
            some = min(LINES_AT_A_TIME, lines - start)
            enroll, test = rng.integers(0, SPEAKERS * RECORDINGS, (2, some))
            near = rng.random(some) < TARGETS
            test[near] = enroll[near] // RECORDINGS * RECORDINGS + rng.integers(0, RECORDINGS, np.count_nonzero(near))
            target = enroll // RECORDINGS == test // RECORDINGS
            llrs = VARIANCE**0.5 * normal_of_pairs(enroll, test) + np.where(target, VARIANCE, -VARIANCE) / 2
            cells = [names.take(pa.array(enroll)), names.take(pa.array(test)), pa.array(llrs.astype(np.float32))]
            writer.write_table(pa.table([*cells, labels.take(pa.array(target.astype(np.int8)))], columns))


def normal_of_pairs(enroll: NDArray[np.int64], test: NDArray[np.int64]) -> NDArray[np.float64]:
    """Normal noise that is the same where a pair comes again, as a score is (hashed as MurmurHash3 ends)."""
    from scipy.special import ndtri

    key = (enroll * SPEAKERS * RECORDINGS + test).astype(np.uint64)
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        key = (key ^ (key >> np.uint64(33))) * np.uint64(factor)
    key ^= key >> np.uint64(33)
    return ndtri(((key >> np.uint64(11)) + 0.5) * 2.0**-53)


def measured(path: Path) -> dict[str, Any]:
    """Seconds, peak memory and output of `xvectors evaluate --scores` in a process of its own."""
    command = [sys.executable, "-m", "xvectors", "evaluate", "--scores", str(path)]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(done.stderr)
    print(done.stdout + done.stderr)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return {"seconds": seconds, "peak_memory_mb": peak / (1e6 if sys.platform == "darwin" else 1e3 / 1.024)}


def compared(path: Path) -> dict[str, float]:
    """Seconds of reading the file in bulk and line by line, and that both read the same."""
    form = form_of(path)
    seconds = {}
    read = {}
    for name, reader in (("bulk", read_bulk), ("line_by_line", read_lines)):
        start = time.perf_counter()
        read[name] = reader(path, form)
        seconds[f"{name}_s"] = time.perf_counter() - start
    assert read["bulk"].names == read["line_by_line"].names
    for column in ("enroll", "test", "scores", "target"):
        np.testing.assert_array_equal(getattr(read["bulk"], column), getattr(read["line_by_line"], column))
    return seconds


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--lines", type=int, default=100_000_000)
    options.add_argument(
        "--by-line", type=int, default=1_000_000, help="lines read line by line (default: %(default)s)"
    )
    options.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where the file is written")
    options.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = options.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        path = Path(folder) / "scores.txt"
        write_scores(path, arguments.by_line)
        readers = compared(path)
        write_scores(path, arguments.lines)
        result: dict[str, Any] = {
            "lines": arguments.lines,
            "file_mb": path.stat().st_size / 1e6,
            **measured(path),
            "bar_s": 30.0,
            "bar_memory_mb": 4000.0,
            "lines_read_both_ways": arguments.by_line,
            **readers,
            "cores": os.cpu_count(),
            "machine": platform.machine(),
            "numpy": np.__version__,
        }
    for name, value in result.items():
        print(f"{name:22} {value:.2f}" if isinstance(value, float) else f"{name:22} {value}")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
