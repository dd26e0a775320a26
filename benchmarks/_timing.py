"""Timing for benchmarks. In: functions by name; out: medians of runs taken in turns, as a table and JSON."""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

Row = dict[str, Any]


def interleaved_medians(contenders: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each contender over `rounds` rounds, after two rounds that are not measured.

    All take turns in each round, which shares the load of other processes fairly, in an order that
    alternates, so that none always runs with the caches another one left.
    """
    runs: dict[str, list[float]] = {name: [] for name in contenders}
    for round_number in range(-2, rounds):
        order = list(contenders) if round_number % 2 else list(reversed(contenders))
        for name in order:
            start = time.perf_counter()
            contenders[name]()
            if round_number >= 0:
                runs[name].append(time.perf_counter() - start)
    return {name: statistics.median(seconds) for name, seconds in runs.items()}


def compare(title: str, contenders: Mapping[str, Callable[[], object]], peer: str, rounds: int) -> list[Row]:
    """Time the contenders and print a row each; a `ratio` above 1 is that much faster than the peer."""
    medians = interleaved_medians(contenders, rounds)
    rows = [
        {"case": title, "name": name, "median_s": seconds, "ratio": medians[peer] / seconds}
        for name, seconds in medians.items()
    ]
    for row in rows:
        print(f"{title:<34} {row['name']:<26} {1000 * row['median_s']:>10.2f} ms {row['ratio']:>7.2f} x")
    return rows


def parser(description: str) -> argparse.ArgumentParser:
    """The options every benchmark has."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--json", type=Path, help="write the rows to this file")
    options.add_argument("--rounds", type=int, default=15, help="measured rounds (default: %(default)s)")
    options.add_argument("--threads", type=int, default=1, help="torch threads (default: %(default)s)")
    return options


def write_json(path: Path | None, rows: list[Row]) -> None:
    """Write the rows with what they were measured on, if a path is given."""
    if path is not None:
        about = {
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "machine": platform.machine(),
            "python": platform.python_version(),
        }
        path.write_text(json.dumps({"about": about, "rows": rows}, indent=2) + "\n")
