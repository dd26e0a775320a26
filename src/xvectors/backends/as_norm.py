"""Normalize scores by a cohort of other speakers.

S-norm after Kenny, Odyssey 2010; adaptive S-norm, AS-norm1 of Matějka et al., Interspeech 2017: each side is compared
with the part of the cohort that is most like it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xvectors.backends.dot_products import Rows, row_products
from xvectors.backends.estimator import Array, Estimator, Scorer, finite_rows
from xvectors.errors import ConfigError, ManifestError, ShapeError
from xvectors.text import agree, count, first_few

logger = logging.getLogger(__name__)


class ScoreNorm(Estimator):
    """Average (score - mean) / deviation over both sides, with mean and deviation of the cohort scores of each side.

    Parameters
    ----------
    top_k
        How many of the cohort, those that score highest, count for a recording: a whole number, or a share between 0
        and 1 of the cohort. None: all of it, which is S-norm; else it is AS-norm.
    leave_out
        How many of the cohort that score highest do not count, before `top_k`: 1 for a cohort that may hold the
        recording's own speaker.

    Attributes
    ----------
    cohort_ [C, D]
        An embedding for each speaker of the cohort.
    cohort_speakers_ [C]
        Their names.
    """

    fitted_names = ("cohort_", "cohort_speakers_")
    cohort_: NDArray[np.float32]
    cohort_speakers_: NDArray[np.str_]

    def __init__(self, top_k: int | float | None = None, leave_out: int = 0) -> None:
        self.top_k = top_k
        self.leave_out = leave_out

    def fit(self, cohort: ArrayLike, speakers: ArrayLike) -> Self:
        """Set the cohort: one embedding [C, D] for each speaker [C], as the scorer sees them.

        Raises
        ------
        ManifestError
            Fewer than two speakers.
        ConfigError
            A top_k that is no number from 2 to C and no share that gives at least 2 of them.
        ShapeError
            Unusable embeddings, or not one speaker a row.
        """
        rows, names = finite_rows(cohort), np.asarray(speakers).astype(np.str_)
        if names.shape != (len(rows),):
            raise ShapeError(
                f"a cohort of {count(len(rows), 'embedding')}, but {count(names.size, 'speaker')}: give one "
                "speaker a row"
            )
        if len(rows) < 2:
            raise ManifestError(
                f"a cohort of {count(len(rows), 'speaker')}: score normalization needs at least two, better 200"
            )
        self.cohort_, self.cohort_speakers_ = rows.astype(np.float32), names
        self._top()
        return self

    def warn_of_overlap(self, speakers: Iterable[Any], what: str = "test") -> list[str]:
        """Return the speakers who are in the cohort, after a warning: their scores are too low."""
        self._check_fitted()
        shared = sorted({str(speaker) for speaker in speakers} & set(self.cohort_speakers_.tolist()))
        if shared:
            logger.warning(
                "%s %s in the cohort of the score normalization (%s): their target scores come out too low; give a "
                "cohort of other speakers",
                count(len(shared), f"{what} speaker"),
                agree(len(shared), "is", "are"),
                first_few(shared),
            )
        return shared

    def project(
        self, scorer: Scorer, enroll: ArrayLike, test: ArrayLike, counts: ArrayLike | None = None
    ) -> tuple[Rows, Rows]:
        """Return rows [k, d] and [t, d], float32, whose dot products are the normalized scores.

        Raises
        ------
        ShapeError
            As the scorer does; a recording that scores alike against its whole cohort.
        """
        self._check_fitted()
        left, right = scorer.project(enroll, test, counts)
        cohort, test_rows = scorer.project(self.cohort_, test)
        test_mean, test_deviation = self._statistics(test_rows, cohort)
        if enroll is test and counts is None:
            mean, deviation = test_mean, test_deviation
        else:
            mean, deviation = self._statistics(*scorer.project(enroll, self.cohort_, counts))
        half, test_half = 0.5 / deviation, 0.5 / test_deviation
        # (s - m) / 2d + (s - m') / 2d' with s = left . right is a dot product of twice the length.
        ones = np.ones((len(left), 1)), np.ones((len(right), 1))
        lefts = np.hstack([left * half, left, -mean * half, ones[0]])
        rights = np.hstack([right, right * test_half, ones[1], -test_mean * test_half])
        return lefts.astype(np.float32), rights.astype(np.float32)

    def _statistics(self, rows: Rows, cohort: Rows) -> tuple[Array, Array]:
        """Return mean and standard deviation [n, 1] of each row's highest scores against the cohort."""
        top = self._top()
        means, deviations = np.empty((2, len(rows), 1))
        for start, scores in row_products(rows, cohort):
            if top < len(cohort):
                ends = len(cohort) - self.leave_out
                scores = np.partition(scores, sorted({ends - top, min(ends, len(cohort) - 1)}), axis=1)
                scores = scores[:, ends - top : ends]
            part = slice(start, start + len(scores))
            means[part] = scores.mean(axis=1, dtype=np.float64, keepdims=True)
            deviations[part] = scores.std(axis=1, dtype=np.float64, keepdims=True)
        flat = deviations[:, 0] <= 1e-6 * np.abs(means[:, 0])
        if flat.any():
            raise ShapeError(
                f"embedding row {int(np.flatnonzero(flat)[0])} scores alike against all {top} of its cohort: "
                "the cohort repeats one embedding; give another"
            )
        return means, deviations

    def _top(self) -> int:
        size = len(self.cohort_) - self.leave_out
        if not (isinstance(self.leave_out, int) and self.leave_out >= 0 and size >= 2):
            raise ConfigError(
                f"leave_out is {self.leave_out} for a cohort of {len(self.cohort_)} speakers: leave 2 or more of them"
            )
        if self.top_k is None:
            return size
        top = round(self.top_k * size) if isinstance(self.top_k, float) and self.top_k < 1 else self.top_k
        if not (isinstance(top, int) and 2 <= top <= size):
            raise ConfigError(
                f"top_k is {self.top_k} for a cohort of {size} speakers: give 2 to {size}, a share between 0 and 1 "
                "that makes 2 or more, or None for all"
            )
        return top
