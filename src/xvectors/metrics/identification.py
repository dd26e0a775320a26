"""Identification: rank rates, open-set rates, and posterior probabilities of the enrolled speakers.

Rates follow Phillips, Grother and Micheals, Handbook of Face Recognition, 2011.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

from xvectors.errors import ConfigError, ManifestError, ShapeError
from xvectors.metrics.detection_cost import bayes_threshold
from xvectors.text import short_repr


@dataclass(frozen=True, kw_only=True)
class OpenSetRate:
    """Detection and identification rate at a false alarm rate, both shares, and their threshold.

    `false_alarm_rate` is the attained rate, at most the requested one. A best score >= threshold is accepted.
    """

    detection_and_identification_rate: float
    false_alarm_rate: float
    threshold: float
    num_enrolled_probes: int
    num_unknown_probes: int


@short_repr()
@dataclass(frozen=True, kw_only=True, eq=False)
class IdentificationRates:
    """Ranks of the true speakers of probes among the enrolled speakers.

    Attributes
    ----------
    rank : int64 [e], from 1, of the e probes with an enrolled speaker; ties count against the true speaker
    own_score : [e] scores of these probes against their own speaker
    unknown_best_score : [u] the best scores of the u probes without an enrolled speaker
    """

    rank: NDArray[np.int64]
    own_score: NDArray[np.floating[Any]]
    unknown_best_score: NDArray[np.floating[Any]]

    @property
    def accuracy(self) -> float:
        """Closed-set accuracy: the share of enrolled probes whose own speaker scores strictly highest."""
        return self.rank_rate(1)

    def rank_rate(self, k: int) -> float:
        """Return the share of enrolled probes with their own speaker among the k best. Raises ConfigError for k < 1."""
        if k < 1:
            raise ConfigError(f"k is {k}: give a rank of 1 (the best) or more")
        if not len(self.rank):
            raise ManifestError("no probe's speaker is enrolled: enroll speakers that the probes are recordings of")
        return float(np.mean(self.rank <= k))

    def dir_at_far(self, far: float, k: int = 1) -> OpenSetRate:
        """Return the share of enrolled probes whose speaker is among the k best and scores at or above a threshold.

        The threshold is the lowest one that at most a share `far` of the unknown probes reaches.

        Raises
        ------
        ConfigError
            A rate outside [0, 1], k below 1.
        ManifestError
            No enrolled, or no unknown probes.
        """
        if not 0.0 <= far <= 1.0:
            raise ConfigError(f"the false alarm rate is {far}: give a share from 0 to 1")
        if not len(self.unknown_best_score):
            raise ManifestError("every probe's speaker is enrolled: an open-set rate needs probes of other speakers")
        self.rank_rate(k)
        best = np.sort(self.unknown_best_score)[::-1]
        allowed = int(np.floor(far * len(best) + 1e-9))
        # just above the first score that must not pass, which excludes ties with it
        threshold = -np.inf if allowed == len(best) else np.nextafter(best[allowed], best.dtype.type(np.inf))
        found = (self.rank <= k) & (self.own_score >= threshold)
        return OpenSetRate(
            detection_and_identification_rate=float(np.mean(found)),
            false_alarm_rate=float(np.mean(best >= threshold)),
            threshold=float(threshold),
            num_enrolled_probes=len(self.rank),
            num_unknown_probes=len(best),
        )


def identification_rates(
    scores: ArrayLike, probe_speakers: ArrayLike, gallery_speakers: ArrayLike
) -> IdentificationRates:
    """Rank the enrolled speakers of every probe.

    Parameters
    ----------
    scores
        [probes, gallery]: higher for more similar voices, such as the outputs of a classifier.
    probe_speakers
        [probes]: speakers as numbers or names, enrolled or not.
    gallery_speakers
        [gallery]: the speaker of each column, one column per speaker.

    Raises
    ------
    ManifestError
        No probes, no gallery, or a speaker enrolled twice.
    ShapeError
        Shapes that do not fit, scores that are not finite real numbers.
    """
    matrix = np.asarray(scores)
    probes, gallery = np.asarray(probe_speakers), np.asarray(gallery_speakers)
    if matrix.shape != (len(probes), len(gallery)) or probes.ndim != 1 or gallery.ndim != 1:
        raise ShapeError(
            f"scores have the shape {list(matrix.shape)}, but there are {len(probes)} probes and {len(gallery)} "
            "enrolled speakers: give one row a probe and one column a speaker"
        )
    if not matrix.size:
        raise ManifestError("nobody to identify: give at least one probe and one enrolled speaker")
    if matrix.dtype.kind not in "iuf":
        raise ShapeError(f"scores are of type {matrix.dtype}: give real numbers")
    matrix = matrix if matrix.dtype in (np.float32, np.float64) else matrix.astype(np.float64)
    if not np.isfinite(matrix).all():
        probe, column = np.argwhere(~np.isfinite(matrix))[0]
        raise ShapeError(f"the score of probe {probe} against {gallery[column]} is {matrix[probe, column]}: not finite")
    names, column_of = np.unique(gallery, return_index=True)
    if len(names) < len(gallery):
        twice = next(name for name in names if np.count_nonzero(gallery == name) > 1)
        raise ManifestError(f"speaker {twice} has several columns: enroll each speaker once, from all its recordings")
    place = np.minimum(np.searchsorted(names, probes), len(names) - 1)
    enrolled = names[place] == probes
    rows = matrix[enrolled]
    own = rows[np.arange(len(rows)), column_of[place[enrolled]]]
    return IdentificationRates(
        rank=np.count_nonzero(rows >= own[:, None], axis=1),
        own_score=own,
        unknown_best_score=matrix[~enrolled].max(axis=1),
    )


@short_repr()
@dataclass(frozen=True, kw_only=True, eq=False)
class Posterior:
    """Posterior probabilities of the speakers of a recording. With speakers not compared, they sum to 1.

    Attributes
    ----------
    enrolled : [m] probabilities of the enrolled speakers that were compared
    nobody : probability that the speaker is not enrolled
    threshold : LLR at which a speaker is as probable as `nobody`
    """

    enrolled: NDArray[np.float64]
    nobody: float
    threshold: float


def open_set_posterior(llrs: ArrayLike, p_enrolled: float, num_enrolled: int | None = None) -> Posterior:
    """Return the posterior of each of N enrolled speakers, and of none of them, given natural-log LLRs [m].

    A priori, the speaker is enrolled with probability p, and all N speakers are equally likely. By Bayes' rule

        P(speaker i) = (p / N) exp(llr_i) / ((1 - p) + (p / N) sum_j exp(llr_j)),

    and `nobody` has 1 - p in the numerator. With N = 1 this is the posterior of a single trial at the prior p.

    Parameters
    ----------
    num_enrolled
        N; m by default. Speakers without an LLR count as likely as the least likely speaker with one, so that no
        probability is too high as long as they are less similar.

    Raises
    ------
    ConfigError
        A prior outside (0, 1).
    ShapeError
        No LLRs, LLRs that are NaN, or fewer enrolled speakers than LLRs.
    """
    values = np.asarray(llrs, dtype=np.float64)
    count = len(values) if num_enrolled is None else num_enrolled
    if values.ndim != 1 or not len(values) or np.isnan(values).any() or count < len(values):
        raise ShapeError(f"LLRs of shape {list(values.shape)} for {count} enrolled speakers: give one each, and no NaN")
    threshold = bayes_threshold(p_enrolled) + math.log(count)
    against_nobody = values - threshold
    weights = np.append(np.ones(len(values) + 1), count - len(values))
    logs = np.concatenate([against_nobody, [0.0, against_nobody.min()]])
    shares = np.exp(logs - logsumexp(logs, b=weights))
    return Posterior(enrolled=shares[: len(values)], nobody=float(shares[len(values)]), threshold=threshold)
