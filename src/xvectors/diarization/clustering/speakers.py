"""Find the speakers among windows of speech, by LLRs that know how much speech they compare.

Two levels keep the memory of hours bounded: the windows of each stretch of about a quarter of an hour are joined by the
mean LLR of their pairs; then whole clusters are joined by the LLR of their mean embeddings, each of which counts for
all its speech, as an enrolled speaker's does. The windows are then assigned again, with a penalty for each change.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from xvectors.backends import PLDA
from xvectors.diarization.clustering.ahc import SpeakerRange, average_linkage, by_first
from xvectors.diarization.clustering.llrs import MIN_WINDOW_S, Embeddings, Labels, LLRs, Seconds, mean_embeddings
from xvectors.diarization.clustering.spectral import spectral_clustering
from xvectors.diarization.clustering.vbx import soft_assignment, vbx
from xvectors.diarization.windows import WINDOW_S
from xvectors.errors import CheckpointError, ConfigError
from xvectors.text import nearest
from xvectors.verification import Verifier

Method = Literal["ahc", "vbx", "spectral"]
METHODS: tuple[Method, ...] = get_args(Method)
ASSIGN_PASSES = 2
FEWEST_PRIOR = 1e-3
"""VBx' speakers with a smaller share are not needed."""


@dataclass(frozen=True, kw_only=True)
class ClusteringSettings:
    """How speakers are told apart. The defaults were chosen on simulated conversations alone.

    Attributes
    ----------
    method : "ahc" (both levels), "vbx", which refines them by VBx and needs a back-end with PLDA, or "spectral"
    window_llr : mean LLR of the pairs of two clusters from which they are joined, at the first level
    cluster_llr : LLR of two clusters' mean embeddings from which they are joined, at the second level
    change_llr : LLR that a change of the speaker between neighboring windows must be worth
    min_speaker_s : seconds of speech below which a cluster is no speaker, where there are others
    fa, fb, loop_probability : of VBx
    block : windows that are compared with each other at once
    """

    method: Method = "ahc"
    window_llr: float = 0.0
    cluster_llr: float = -1.0
    change_llr: float = 2.0
    min_speaker_s: float = 2.0
    fa: float = 0.5
    fb: float = 5.0
    loop_probability: float = 0.5
    block: int = 1500


def check_method(name: str, verifier: Verifier) -> Method:
    """Return the method to use. Raises ConfigError for an unknown one, and for VBx without a PLDA."""
    if name == "vbx" and not isinstance(verifier.backend.scorer, PLDA):
        raise ConfigError(
            f"clustering vbx needs a back-end with PLDA, and this system's is {verifier.name}; use ahc, or calibrate "
            "with `xvectors calibrate DIR --backend lda_plda`"
        )
    for known in METHODS:
        if name == known:
            return known
    raise ConfigError(f"clustering {name!r} is unknown{nearest(name, METHODS)}")


def find_speakers(
    embeddings: Embeddings,
    window_s: Seconds,
    seconds: Seconds,
    verifier: Verifier,
    speakers: SpeakerRange | None = None,
    settings: ClusteringSettings | None = None,
) -> Labels:
    """Return the speaker [n] of each window from 0, by first occurrence.

    Parameters
    ----------
    embeddings
        float32 [n, D], in order of time.
    window_s, seconds
        [n], the duration of each window and the speech that it stands for, where windows overlap.
    verifier
        The system's back-end and calibration.
    speakers
        Limits of the number of speakers; there are never more than windows.

    Raises
    ------
    CheckpointError
        The system is not calibrated, so that no score says whether two windows are of one speaker.
    ConfigError
        As in `check_method`.
    """
    how = settings or ClusteringSettings()
    limits = speakers or SpeakerRange()
    method = check_method(how.method, verifier)
    if not verifier.is_calibrated:
        raise CheckpointError(
            "the system is not calibrated, so no score says whether two windows are of one speaker; `xvectors "
            "calibrate DIR --data SPEAKERS` calibrates it"
        )
    if len(embeddings) < 2:
        return np.zeros(len(embeddings), dtype=np.int64)
    scorer = LLRs(replace(verifier, bounds=None))
    rows = embeddings
    long = window_s >= MIN_WINDOW_S
    if np.count_nonzero(long) < limits.least or not long.any():
        long = np.ones(len(rows), dtype=bool)
    labels = np.full(len(rows), -1, dtype=np.int64)
    if method == "spectral":
        labels[long] = _spectral(scorer, rows[long], window_s[long], seconds[long], limits, how)
    else:
        labels[long] = _two_levels(scorer, rows[long], window_s[long], seconds[long], limits, how)
    if method == "vbx":
        labels[long] = _vbx(verifier, embeddings[long], labels[long], limits, how)
    labels = _without_small(labels, seconds, limits, how.min_speaker_s)
    for _ in range(ASSIGN_PASSES):
        assigned = _assigned(scorer, rows, window_s, seconds, labels, how.change_llr)
        if len(np.unique(assigned)) < min(limits.least, len(np.unique(labels[labels >= 0]))):
            break
        labels = assigned
    if (labels < 0).any():  # the last assignment would have lost a speaker
        labels = np.where(labels < 0, assigned, labels)
    return by_first(labels)


def _two_levels(
    scorer: LLRs, rows: Embeddings, window_s: Seconds, seconds: Seconds, limits: SpeakerRange, how: ClusteringSettings
) -> Labels:
    labels, count = np.empty(len(rows), dtype=np.int64), 0
    for first in range(0, len(rows), how.block):
        part = slice(first, first + how.block)
        llrs = scorer.matrix(rows[part], window_s[part], rows[part], window_s[part])
        found = average_linkage(0.5 * (llrs + llrs.T), how.window_llr, SpeakerRange(min(limits.least, len(llrs))))
        labels[part] = found + count
        count += int(found.max()) + 1
    return _joined(scorer, rows, seconds, labels, limits, how.cluster_llr)


def _joined(
    scorer: LLRs, rows: Embeddings, seconds: Seconds, labels: Labels, limits: SpeakerRange, threshold: float
) -> Labels:
    """Join the two clusters with the highest LLR of their means, until none is above the threshold or limits forbid."""
    labels = by_first(labels)
    count = int(labels.max()) + 1
    means, totals = mean_embeddings(rows, seconds, labels, count)
    sums = means * totals[:, None].astype(np.float32)
    llrs = scorer.matrix(means, totals, means, totals)
    llrs = 0.5 * (llrs + llrs.T)
    np.fill_diagonal(llrs, -np.inf)
    left = count
    while left > limits.least:
        one, other = np.unravel_index(int(np.argmax(llrs)), llrs.shape)
        if left <= limits.most and llrs[one, other] < threshold:
            break
        sums[one] += sums[other]
        totals[one] += totals[other]
        labels[labels == other] = one
        llrs[other], llrs[:, other] = -np.inf, -np.inf
        there = np.isfinite(llrs[one])
        there[one] = False
        if there.any():
            means[one] = sums[one] / totals[one]
            row = scorer.matrix(means[one : one + 1], totals[one : one + 1], means[there], totals[there])[0]
            llrs[one, there] = llrs[there, one] = row
        left -= 1
    return by_first(labels)


def _spectral(
    scorer: LLRs, rows: Embeddings, window_s: Seconds, seconds: Seconds, limits: SpeakerRange, how: ClusteringSettings
) -> Labels:
    """Cluster up to a block of windows by their LLRs; of more, clusters of a few windows each take their place."""
    labels = np.arange(len(rows))
    if len(rows) > how.block:
        labels = labels // -(-len(rows) // how.block)
    means, totals = mean_embeddings(rows, seconds, labels, int(labels.max()) + 1)
    llrs = scorer.matrix(means, np.maximum(totals, WINDOW_S), means, np.maximum(totals, WINDOW_S))
    given = None if limits == SpeakerRange() else limits
    return spectral_clustering(0.5 * (llrs + llrs.T), given)[labels]


def _vbx(
    verifier: Verifier, embeddings: Embeddings, labels: Labels, limits: SpeakerRange, how: ClusteringSettings
) -> Labels:
    """Refine labels by VBx; they stay where it finds fewer speakers than asked for."""
    plda = verifier.backend.scorer
    assert isinstance(plda, PLDA)
    features, psi = plda.diagonal(verifier.backend.transform(embeddings))
    result = vbx(
        features,
        psi,
        soft_assignment(labels),
        fa=how.fa,
        fb=how.fb,
        loop_probability=how.loop_probability,
    )
    posterior = np.where(result.priors > FEWEST_PRIOR, result.posterior, 0.0)
    found = by_first(posterior.argmax(axis=1))
    return labels if int(found.max()) + 1 < min(limits.least, int(labels.max()) + 1) else found


def _without_small(labels: Labels, seconds: Seconds, limits: SpeakerRange, least_s: float) -> Labels:
    """Return the labels with -1 for clusters of little speech; the largest, and as many as asked for, stay."""
    numbers = np.unique(labels[labels >= 0])
    totals = np.array([seconds[labels == number].sum() for number in numbers])
    order = np.argsort(-totals, kind="stable")
    kept = {int(numbers[at]) for rank, at in enumerate(order) if totals[at] >= least_s or rank < limits.least}
    kept.add(int(numbers[order[0]]))
    return np.where(np.isin(labels, list(kept)), labels, -1)


def _assigned(
    scorer: LLRs, rows: Embeddings, window_s: Seconds, seconds: Seconds, labels: Labels, change_llr: float
) -> Labels:
    """Assign each window to the speaker that fits, by Viterbi's algorithm; a change costs `change_llr`."""
    labels = np.where(labels < 0, -1, np.unique(labels, return_inverse=True)[1] - int((labels < 0).any()))
    count = int(labels.max()) + 1
    if count == 1:
        return np.zeros(len(rows), dtype=np.int64)
    means, totals = mean_embeddings(rows, seconds, labels, count)
    llrs = scorer.matrix(rows, window_s, means, totals).astype(np.float64)
    best, came = llrs[0], np.empty(llrs.shape, dtype=np.int64)
    for at in range(1, len(llrs)):
        top = int(np.argmax(best))
        change = best[top] - change_llr > best
        came[at] = np.where(change, top, np.arange(count))
        best = np.where(change, best[top] - change_llr, best) + llrs[at]
    path = np.empty(len(llrs), dtype=np.int64)
    path[-1] = int(np.argmax(best))
    for at in range(len(llrs) - 1, 0, -1):
        path[at - 1] = came[at, path[at]]
    return path
