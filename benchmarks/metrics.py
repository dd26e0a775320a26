"""How long 100 million scores take to sort and measure, and how much memory.

    python benchmarks/metrics.py [--scores 100000000] [--targets 1000000] [--json FILE]

Prints a table and writes it as JSON. The bar: under 30 s and under 4 GB, the scores themselves included, on two cores.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from xvectors.metrics import ROC, ScoreHistogram

MEASURES: dict[str, Callable[[ROC], object]] = {
    "eer": ROC.eer,
    "rocch_eer": ROC.rocch_eer,
    "min_dcf": ROC.min_dcf,
    "actual_dcf": ROC.actual_dcf,
    "cllr": ROC.cllr,
    "min_cllr": ROC.min_cllr,
    "auc": ROC.auc,
    "tpr_at_fpr": lambda roc: roc.tpr_at_fpr(0.001),
    "det": ROC.det,
}


def llrs(scores: int, targets: int) -> tuple[np.ndarray, np.ndarray]:
    """Calibrated scores of a system with an EER of about 5.7 %, float32 [targets] and [scores - targets]."""
    rng = np.random.default_rng(0)
    variance = np.float32(10.0)
    sides = []
    for number, mean in ((targets, variance / 2), (scores - targets, -variance / 2)):
        side = rng.standard_normal(number, dtype=np.float32)
        side *= np.sqrt(variance)
        side += mean
        sides.append(side)
    return sides[0], sides[1]


def peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scores", type=int, default=100_000_000)
    parser.add_argument("--targets", type=int, default=1_000_000, help="how many of the scores are of targets")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    target, nontarget = llrs(arguments.scores, arguments.targets)
    seconds: dict[str, float] = {}
    start = time.perf_counter()
    roc = ROC.from_scores(target, nontarget)
    seconds["sort_and_count"] = time.perf_counter() - start
    for name, measure in MEASURES.items():
        start = time.perf_counter()
        measure(roc)
        seconds[name] = time.perf_counter() - start
    peak = peak_bytes()
    points, eer = len(roc), roc.eer().eer
    del roc
    start = time.perf_counter()
    histogram = ScoreHistogram(-50, 50)
    histogram.add(target, nontarget)
    binned = histogram.roc().eer().eer
    streamed_s = time.perf_counter() - start
    result = {
        "scores": arguments.scores,
        "targets": arguments.targets,
        "operating_points": points,
        **{f"{name}_s": round(value, 3) for name, value in seconds.items()},
        "all_s": round(sum(seconds.values()), 2),
        "peak_memory_mb": round(peak / 1e6),
        "histogram_s": round(streamed_s, 2),
        "histogram_eer_difference": abs(binned - eer),
        "bar_s": 30.0,
        "bar_memory_mb": 4000.0,
        "machine": platform.machine(),
        "numpy": np.__version__,
    }
    for name, value in result.items():
        print(f"{name:26} {value}")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
