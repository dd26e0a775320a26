"""How often LLRs at the bounds of a calibration are borne out, by simulation.

    python benchmarks/llr_bounds.py [--draws 200]

Embeddings are normal: speakers differ, and recordings of a speaker differ, with a spread of each speaker's own (its
standard deviation is log-normal). A calibration is learned by cosine on N speakers with R recordings each. In a
population of 1500 other speakers, the ratio of the shares of targets and non-targets with an LLR of L or more is what
the LLRs may claim there: L is borne out if the ratio is e^L or more, and at the lower end, the other way around.
Printed is the share of draws in which it is, at the bounds, and at the LLRs that the unbounded calibration gives to the
1000th most extreme trials of the population.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from xvectors.backends import AffineCalibration, cosine_scores
from xvectors.trials import Trials
from xvectors.verification.bounds import llr_bounds

DIM, SPEAKERS, EACH = 24, 1500, 4
TRIALS = 1_000_000


def draw(speakers: int, each: int, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    centers = rng.normal(size=(speakers, DIM))
    spread = np.exp(rng.normal(np.log(0.75), 0.25, size=speakers))
    rows = np.repeat(centers, each, axis=0) + rng.normal(size=(speakers * each, DIM)) * np.repeat(spread, each)[:, None]
    return rows.astype(np.float32), np.repeat(np.arange(speakers), each)


def scores(rows: NDArray[np.float32], left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.float32]:
    trials = Trials(enroll=left.astype(np.int32), test=right.astype(np.int32), target=np.zeros(len(left), np.bool_))
    return np.asarray(cosine_scores(rows, trials))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--draws", type=int, default=200)
    draws = options.parse_args().draws
    rng = np.random.default_rng(0)
    rows, names = draw(SPEAKERS, EACH, rng)
    i, j = (rng.integers(0, len(rows), TRIALS) for _ in range(2))
    different = names[i] != names[j]
    nontarget = np.sort(scores(rows, i[different], j[different]))
    at = np.arange(len(rows)).reshape(SPEAKERS, EACH)
    pairs = [(at[:, a], at[:, b]) for a in range(EACH) for b in range(a + 1, EACH)]
    target = np.sort(np.concatenate([scores(rows, a, b) for a, b in pairs]))

    def claim(score: float) -> float:
        """The log of the ratio of the shares of targets and non-targets with this score or more."""
        shares = [1 - np.searchsorted(side, score) / len(side) for side in (target, nontarget)]
        return float(np.log(max(shares[0], 1e-9) / max(shares[1], 1 / len(nontarget))))

    def claim_low(score: float) -> float:
        shares = [np.searchsorted(side, score) / len(side) for side in (target, nontarget)]
        return float(np.log(max(shares[0], 1 / len(target)) / max(shares[1], 1e-9)))

    print(f"{'speakers x recordings':>22} {'bounds':>16} {'borne out':>18} {'unbounded: LLR':>17} {'borne out':>10}")
    for speakers, each in ((10, 5), (10, 20), (20, 5), (20, 10), (50, 5), (50, 10)):
        outcomes = []
        for _ in range(draws):
            own, of = draw(speakers, each, rng)
            a, b = np.triu_indices(len(own), 1)
            fitted = AffineCalibration().fit(scores(own, a, b), of[a] == of[b])
            low, high = llr_bounds(of)
            top, bottom = (high - fitted.offset_) / fitted.scale_, (low - fitted.offset_) / fitted.scale_
            extreme = float(nontarget[-1000])
            given = float(fitted.transform([extreme])[0])
            outcomes.append((claim(top) >= high, claim_low(bottom) <= low, given, claim(extreme) >= given))
        shares = np.mean(outcomes, axis=0)
        print(
            f"{speakers:>12} x {each:<7} {low:>7.1f} to {high:>5.1f} {shares[1]:>8.0%} and {shares[0]:>4.0%} "
            f"{shares[2]:>17.1f} {shares[3]:>10.0%}"
        )


if __name__ == "__main__":
    main()
