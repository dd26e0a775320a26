"""Decide whether the lengths of embeddings belong into a calibration, by speakers left out.

Networks that were trained with a margin give shorter embeddings of voices that are hard to tell (Meng et al., MagFace,
CVPR 2021, shape a loss by it), and as a quality measure the length shrinks LLRs where scores say less.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from xvectors.backends import AffineCalibration, Backend, pair_quality
from xvectors.errors import ManifestError, ShapeError, TrainingError
from xvectors.metrics import ROC
from xvectors.metrics.bootstrap import ScoredTrials, compare_systems
from xvectors.trials import Trials
from xvectors.trials.pairs import speaker_numbers
from xvectors.verification.calibration_set import Basis, all_trials, some_recordings
from xvectors.verification.verifier import (
    MAGNITUDE_NAMES,
    QUALITY_NAMES,
    duration_quality,
    magnitudes_of,
)

MIN_SPEAKERS = 10
"""With fewer speakers with two recordings, a few voices would decide."""
FOLDS = 5
MAX_ROWS = 600
"""Largest number of recordings and crops to compare in pairs."""
CONFIDENCE, DRAWS = 0.9, 200
LEAST_SPREAD = 1e-3
"""Embeddings whose log lengths vary less than this were normalized."""


def trial_quality(basis: Basis, trials: Trials, *, magnitude: bool) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Return the quality measures [m, k] of trials between rows of a calibration set, and their names."""
    quality = duration_quality(basis.duration_s[trials.enroll], basis.duration_s[trials.test])
    if not magnitude:
        return quality, QUALITY_NAMES
    lengths = magnitudes_of(basis.embeddings)
    lengths = pair_quality(lengths[trials.enroll], lengths[trials.test])
    return np.hstack([quality, lengths]), (*QUALITY_NAMES, *MAGNITUDE_NAMES)


def magnitude_gain(basis: Basis, backend: Backend, p_target: float, seed: int) -> Mapping[str, float | bool] | None:
    """Compare calibrations with and without the lengths of embeddings on speakers who took no part in them.

    Returns
    -------
    `difference`, in bits of Cllr, with its 90 % interval over speakers `low` to `high`, and `used`: whether all of the
    interval is below 0. None with fewer than `MIN_SPEAKERS` speakers with two recordings, lengths that are all alike,
    or trials that cannot be compared.
    """
    lengths = magnitudes_of(basis.embeddings)
    _, counts = np.unique(basis.speakers[basis.whole], return_counts=True)
    if np.count_nonzero(counts >= 2) < MIN_SPEAKERS or not np.isfinite(lengths).all() or lengths.std() < LEAST_SPREAD:
        return None
    some = some_recordings(basis, seed, MAX_ROWS)
    trials = all_trials(some)
    scores = backend.score(some.embeddings, trials)
    numbers = speaker_numbers(some.speakers)
    fold = np.random.default_rng(seed).permutation(int(numbers.max()) + 1) % FOLDS
    left, right = fold[numbers[trials.enroll]], fold[numbers[trials.test]]
    measured: list[NDArray[np.int64]] = []
    llrs: dict[bool, list[NDArray[np.float64]]] = {False: [], True: []}
    qualities = {magnitude: trial_quality(some, trials, magnitude=magnitude) for magnitude in llrs}
    try:
        for number in range(FOLDS):
            kept, out = (left != number) & (right != number), np.flatnonzero((left == number) & (right == number))
            for magnitude, found in llrs.items():
                quality, names = qualities[magnitude]
                fitted = AffineCalibration(p_target).fit(scores[kept], trials.target[kept], quality[kept], names)
                found.append(fitted.transform(scores[out], quality[out]))
            measured.append(out)
        at = np.concatenate(measured)
        judged = ScoredTrials.of(trials.target[at], numbers[trials.enroll[at]], numbers[trials.test[at]])
    except (ManifestError, ShapeError, TrainingError):
        return None  # a fold without both kinds of trials, or scores that separate them
    without, with_it = (np.concatenate(llrs[magnitude]) for magnitude in (False, True))
    compared = compare_systems(
        without, with_it, judged, {"cllr": ROC.cllr}, num_draws=DRAWS, confidence=CONFIDENCE, seed=seed
    )["cllr"].difference
    return {"used": bool(compared.high < 0), "difference": compared.value, "low": compared.low, "high": compared.high}
