"""Choose trials for confidence intervals if there are too many to resample all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xvectors.trials.sorting import blocks

MAX_TRIALS = 5_000_000
PILOT = 1_000_000
"""Number of trials that estimate where the highest non-target scores begin."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Subsample:
    """Trial numbers [k], ascending, and the number of trials that each represents, int64 [k]; None for 1 each."""

    at: NDArray[np.int64]
    weight: NDArray[np.int64] | None = None
    note: str = ""


def subsample_trials(scores: NDArray[Any], target: NDArray[np.bool_], seed: int = 0) -> Subsample:
    """Return all trials, or a subsample of about 5 million.

    Up to half of the subsample are random target trials. The rest are the non-target trials with the highest scores,
    which determine low false acceptance rates, and as many random ones, each of which represents several trials.
    """
    if len(target) <= MAX_TRIALS:
        return Subsample(at=np.arange(len(target)))
    rng = np.random.default_rng(seed)
    num_target = int(np.count_nonzero(target))
    num_nontarget = len(target) - num_target
    most_targets = max(MAX_TRIALS // 2, MAX_TRIALS - num_nontarget)
    of_targets = np.float32(min(1.0, most_targets / max(1, num_target)))
    room = MAX_TRIALS - min(num_target, most_targets)
    begins, one_in = -np.inf, 1
    if num_nontarget > room:
        pilot = rng.integers(0, len(target), PILOT)
        begins = np.quantile(scores[pilot][~target[pilot]], 1 - room / 2 / num_nontarget)
        one_in = -(-num_nontarget // (room - room // 2))
    parts, weights = [], []
    for part in blocks(len(target)):
        is_target, chance = target[part], rng.random(part.stop - part.start, dtype=np.float32)
        low = ~is_target & ~(scores[part] > begins)
        kept = np.flatnonzero(chance < np.where(low, np.float32(1 / one_in), np.where(is_target, of_targets, 1)))
        parts.append(part.start + kept)
        weights.append(np.where(low[kept], one_in, 1))
    at, weight = np.concatenate(parts), np.concatenate(weights)
    num_kept = int(np.count_nonzero(target[at]))
    num_low = int(np.count_nonzero(weight > 1))
    said = [f"all {num_target:,} target trials" if num_kept == num_target else f"{num_kept:,} target trials"]
    said.append(f"the {len(at) - num_kept - num_low:,} non-target trials of the highest scores")
    said.append(f"{num_low:,} others, one in {one_in}")
    if one_in == 1:
        said[1:] = [f"all {num_nontarget:,} non-target trials"]
    of_all = f"intervals of {len(at):,} of the {len(target):,}"
    return Subsample(at=at, weight=weight, note=f"figures are of every trial, {of_all}: {', '.join(said)}")
