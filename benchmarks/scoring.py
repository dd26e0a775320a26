"""Millions of trials: cosine, PLDA and AS-norm, each beside a loop that scores one trial at a time.

    python benchmarks/scoring.py [--threads 2] [--rounds 3] [--json FILE]

The bars, on two cores: 10 million cosine trials in 3 s, 10 million PLDA trials in 6 s, 1 million trials with AS-norm
and a cohort of 1,000 in 10 s. Random embeddings; projecting them is part of the time, making the trials is not. The
loop scores fewer trials, and its time is stated for as many as ours.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from xvectors.backends import PLDA, Backend, Cosine, ScoreNorm

COHORT, TOP_K = 1000, 300
LOOP_TRIALS = {"cosine": 50_000, "PLDA": 20_000, "AS-norm": 1_000}
Array = NDArray[Any]
Score = Callable[[Array, Array, Array], object]


def plda_model(dim: int, rng: np.random.Generator) -> PLDA:
    factor = rng.normal(size=(dim, dim)) / np.sqrt(dim)
    return PLDA.from_covariances(np.zeros(dim), np.eye(dim), factor @ factor.T)


def cosine_loop(x: Array, enroll: Array, test: Array) -> list[float]:
    return [
        float(x[e] @ x[t] / (np.linalg.norm(x[e]) * np.linalg.norm(x[t]))) for e, t in zip(enroll, test, strict=True)
    ]


def plda_loop(plda: PLDA) -> Score:
    """The ratio of the trial's joint density to that of two speakers, as quadratic forms of both embeddings."""
    total = np.linalg.inv(plda.within_ + plda.between_)
    dim = len(total)
    joint_covariance = np.kron(np.eye(2), plda.within_) + np.kron(np.ones((2, 2)), plda.between_)
    joint = np.linalg.inv(joint_covariance)
    constant = 0.5 * (-np.linalg.slogdet(joint_covariance)[1] - 2 * np.linalg.slogdet(total)[1])
    own, cross = 0.5 * (total - joint[:dim, :dim]), joint[:dim, dim:]

    def score(x: Array, enroll: Array, test: Array) -> list[float]:
        return [
            float(constant + x[e] @ own @ x[e] + x[t] @ own @ x[t] - x[e] @ cross @ x[t])
            for e, t in zip(enroll, test, strict=True)
        ]

    return score


def asnorm_loop(cohort: Array) -> Score:
    others = cohort / np.linalg.norm(cohort, axis=1, keepdims=True)

    def score(x: Array, enroll: Array, test: Array) -> list[float]:
        scores = []
        for e, t in zip(enroll, test, strict=True):
            sides = [x[row] / np.linalg.norm(x[row]) for row in (e, t)]
            best = [np.sort(others @ side)[-TOP_K:] for side in sides]
            raw = sides[0] @ sides[1]
            scores.append(float(sum((raw - top.mean()) / top.std() for top in best) / 2))
        return scores

    return score


def backend_scores(backend: Backend) -> Score:
    return lambda x, enroll, test: backend.score_pairs(x, x, enroll, test)


def median_s(run: Callable[[], object], rounds: int) -> float:
    run()
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--threads", type=int, default=2, help="of matrix products (default: %(default)s)")
    options.add_argument("--rounds", type=int, default=3, help="measured rounds (default: %(default)s)")
    options.add_argument("--trials", type=int, default=10_000_000, help="a tenth of it with AS-norm")
    options.add_argument("--json", type=Path, help="write the rows to this file")
    arguments = options.parse_args()
    rng = np.random.default_rng(0)
    cohort = rng.standard_normal((COHORT, 256), dtype=np.float32)
    plda = plda_model(200, rng)
    asnorm = Backend([], Cosine(), ScoreNorm(TOP_K).fit(cohort, np.arange(COHORT)))
    cases: list[tuple[str, int, int, int, float, Score, Score]] = [
        ("cosine", 5_000, 512, arguments.trials, 3.0, backend_scores(Backend()), cosine_loop),
        ("cosine", 50_000, 512, arguments.trials, 3.0, backend_scores(Backend()), cosine_loop),
        ("PLDA", 5_000, 200, arguments.trials, 6.0, backend_scores(Backend([], plda)), plda_loop(plda)),
        ("PLDA", 50_000, 200, arguments.trials, 6.0, backend_scores(Backend([], plda)), plda_loop(plda)),
        ("AS-norm", 5_000, 256, arguments.trials // 10, 10.0, backend_scores(asnorm), asnorm_loop(cohort)),
    ]
    rows: list[dict[str, Any]] = []
    for name, recordings, dim, trials, bar_s, ours, loop in cases:
        x = rng.standard_normal((recordings, dim), dtype=np.float32)
        enroll, test = rng.integers(0, recordings, (2, trials))
        few = min(LOOP_TRIALS[name], trials)
        np.testing.assert_allclose(
            ours(x, enroll[:100], test[:100]), loop(x, enroll[:100], test[:100]), rtol=1e-3, atol=1e-2
        )
        with threadpool_limits(arguments.threads):
            seconds = median_s(partial(ours, x, enroll, test), arguments.rounds)
            loop_seconds = median_s(partial(loop, x, enroll[:few], test[:few]), 1) * trials / few
        rows.append(
            {
                "case": name,
                "recordings": recordings,
                "dim": dim,
                "trials": trials,
                "median_s": seconds,
                "bar_s": bar_s,
                "loop_s": loop_seconds,
                "ratio": loop_seconds / seconds,
            }
        )
        print(
            f"{name:<8} {trials / 1e6:>5.1f} million trials of {recordings:>6} recordings, {dim} dimensions"
            f"  {seconds:>7.2f} s (bar {bar_s:g} s)  loop {loop_seconds:>8.1f} s  {rows[-1]['ratio']:>6.1f} x"
        )
    if arguments.json:
        about = {"numpy": np.__version__, "threads": arguments.threads, "machine": platform.machine()}
        arguments.json.write_text(json.dumps({"about": about, "rows": rows}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
