"""Learning a verifier. In: embeddings of speakers that the network does not know, whole and cropped recordings.
Out: the back-end that does best on speakers held out from its fit, and a calibration that trusts short recordings less.

Every score that the calibration learns from is of speakers that the back-end was not fitted on: the speakers are
divided into folds, as in the choice of the back-end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xvectors.errors import ConfigError, ManifestError, ShapeError
from xvectors.scoring import ROC, AffineCalibration, Trials
from xvectors.scoring.backends import BACKENDS, Backend, make_backend, select_backend
from xvectors.scoring.cosine import real_rows
from xvectors.scoring.trials import speaker_numbers
from xvectors.verification.verifier import QUALITY_NAMES, Verifier, duration_quality

CROP_DURATIONS_S = (0.5, 1.0, 2.0)
CANDIDATES = ("cosine", "cosine_centred", "wccn", "lda", "lda_plda")
"""Quick to fit and to score. Score normalisation is not among them: its cohort would be the few held-out speakers."""
FOLDS = 5
FEWEST_TO_CHOOSE = 20
"""Speakers with two recordings or more. With fewer, the folds differ more than the back-ends do."""
MOST_ROWS = 3000
"""Recordings and crops that are compared pair by pair: 4.5 million trials."""

SIMPLE = "cosine"


@dataclass(frozen=True, kw_only=True, eq=False)
class Basis:
    """Embeddings to learn from: n rows, each of a whole recording or of a crop.

    Attributes
    ----------
    embeddings : [n, D]
    speakers : [n] names
    recording : [n] the recording each row is of, a number; its crops share it
    duration_s : [n] seconds that were embedded
    whole : bool [n] whether it is the whole recording
    """

    embeddings: NDArray[np.float32]
    speakers: NDArray[np.str_]
    recording: NDArray[np.int64]
    duration_s: NDArray[np.float64]
    whole: NDArray[np.bool_]

    def __post_init__(self) -> None:
        rows = len(real_rows(self.embeddings))
        for name in ("speakers", "recording", "duration_s", "whole"):
            shape = getattr(self, name).shape
            if shape != (rows,):
                raise ShapeError(f"{name} has the shape {list(shape)}, but there are {rows} embeddings")

    def take(self, rows: ArrayLike) -> Basis:
        at = np.asarray(rows)
        return Basis(
            embeddings=self.embeddings[at],
            speakers=self.speakers[at],
            recording=self.recording[at],
            duration_s=self.duration_s[at],
            whole=self.whole[at],
        )


def learn_verifier(
    basis: Basis,
    *,
    candidates: Mapping[str, Callable[[], Backend]] | None = None,
    fewest_to_choose: int = FEWEST_TO_CHOOSE,
    seed: int = 0,
) -> Verifier:
    """Choose and fit a back-end, and calibrate it.

    The back-end is chosen by Cllr and fitted on whole recordings; one that is better than cosine by less than the
    standard error of its Cllr is not taken. Trials for the calibration are all pairs of two recordings, whole and
    cropped, of speakers in one fold.

    Parameters
    ----------
    candidates
        Back-ends by name, cosine among them; by default `CANDIDATES`.
    fewest_to_choose
        With fewer speakers (of two recordings or more) the back-end is cosine.
    seed
        Of the folds, and of the recordings that stand for more than there is room for.

    Raises
    ------
    ManifestError
        Fewer than two speakers, or no speaker with two recordings.
    ShapeError
        Embeddings that cannot be scored, or targets that score lower than non-targets.
    """
    names, counts = np.unique(basis.speakers[basis.whole], return_counts=True)
    repeated = int(np.count_nonzero(counts >= 2))
    if len(names) < 2 or not repeated:
        raise ManifestError(
            f"calibration needs at least two speakers, one of them with two recordings; there are {len(names)}, "
            f"{repeated} of them with two recordings"
        )
    name, table = _choose(basis, candidates, repeated, fewest_to_choose, seed)
    make = (candidates or BACKENDS)[name] if name != SIMPLE else lambda: make_backend(SIMPLE)
    basis = _some_recordings(basis, seed)
    fold = None if name == SIMPLE else _folds(basis.speakers, seed)
    trials = _trials(basis, fold)
    scores = _scores(basis, trials, make, fold)
    quality = duration_quality(basis.duration_s[trials.enroll], basis.duration_s[trials.test])
    calibration = AffineCalibration().fit(scores, trials.target, quality, QUALITY_NAMES)
    whole = basis.take(basis.whole)
    return Verifier(
        backend=make().fit(whole.embeddings, whole.speakers),
        name=name,
        calibration=calibration,
        backend_table=table,
        basis={
            "speakers": names.tolist(),
            "num_speakers": len(names),
            "num_recordings": len(whole.speakers),
            "num_crops": len(basis.speakers) - len(whole.speakers),
            "num_target_trials": trials.num_target,
            "num_nontarget_trials": trials.num_nontarget,
            "shortest_s": float(basis.duration_s.min()),
            "longest_s": float(basis.duration_s.max()),
            "seed": seed,
        },
        figures=_figures(basis, trials, scores, quality, calibration),
    )


def _choose(
    basis: Basis,
    candidates: Mapping[str, Callable[[], Backend]] | None,
    repeated: int,
    fewest: int,
    seed: int,
) -> tuple[str, dict[str, Any]]:
    """The name of the back-end, and why."""
    if repeated < max(fewest, 2 * FOLDS):
        reason = f"{repeated} speakers with two recordings; to choose takes {max(fewest, 2 * FOLDS)}"
        return SIMPLE, {"reason": reason}
    among = candidates or {name: BACKENDS[name] for name in CANDIDATES}
    if SIMPLE not in among:
        raise ConfigError(f"the candidates lack {SIMPLE}, which a back-end has to be better than; add it")
    whole = basis.take(basis.whole)
    selection = select_backend(whole.embeddings, whole.speakers, among, folds=FOLDS, seed=seed)
    by_name = {row.name: row for row in selection.figures}
    best, simple = by_name[selection.name], by_name[SIMPLE]
    gain = simple.cllr - best.cllr
    if best.name != SIMPLE and not simple.left_out and gain <= best.cllr_error:
        reason = (
            f"{best.name} has a Cllr lower by {gain:.3f} bits, no more than its standard error {best.cllr_error:.3f}"
        )
        return SIMPLE, {"reason": reason, "selection": selection.table()}
    return best.name, {"reason": "the least Cllr on held-out speakers", "selection": selection.table()}


def _some_recordings(basis: Basis, seed: int) -> Basis:
    """At most about MOST_ROWS rows: as many recordings of each speaker as that leaves room for, with their crops."""
    if len(basis.speakers) <= MOST_ROWS:
        return basis
    recordings, first = np.unique(basis.recording, return_index=True)
    speakers = speaker_numbers(basis.speakers[first])
    order = np.random.default_rng(seed).permutation(len(recordings))
    order = order[np.argsort(speakers[order], kind="stable")]
    counts = np.bincount(speakers)
    place = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    room = MOST_ROWS * len(recordings) // len(basis.speakers)
    each = max(2, room // len(counts))
    kept = order[place < each]
    return basis.take(np.isin(basis.recording, recordings[kept]))


def _folds(speakers: NDArray[np.str_], seed: int) -> NDArray[np.int64]:
    """[n] the fold of each row's speaker."""
    numbers = speaker_numbers(speakers)
    of_speaker = np.random.default_rng(seed).permutation(int(numbers.max()) + 1) % FOLDS
    return np.asarray(of_speaker[numbers], dtype=np.int64)


def _trials(basis: Basis, fold: NDArray[np.int64] | None) -> Trials:
    """All pairs of rows of two recordings, within a fold where there are folds."""
    speakers = speaker_numbers(basis.speakers)
    enroll, test = [], []
    for row in range(len(speakers) - 1):
        others = np.arange(row + 1, len(speakers), dtype=np.int32)
        fits = basis.recording[others] != basis.recording[row]
        if fold is not None:
            fits &= fold[others] == fold[row]
        test.append(others[fits])
        enroll.append(np.full(len(test[-1]), row, dtype=np.int32))
    left, right = np.concatenate(enroll), np.concatenate(test)
    return Trials(enroll=left, test=right, target=speakers[left] == speakers[right])


def _scores(
    basis: Basis, trials: Trials, make: Callable[[], Backend], fold: NDArray[np.int64] | None
) -> NDArray[np.float32]:
    """Scores of the trials, each by a back-end that was fitted on whole recordings of the other folds."""
    if fold is None:
        return make().score(basis.embeddings, trials)
    scores = np.empty(len(trials), dtype=np.float32)
    for number in np.unique(fold):
        others = basis.take((fold != number) & basis.whole)
        backend = make().fit(others.embeddings, others.speakers)
        here = fold[trials.enroll] == number
        part = Trials(enroll=trials.enroll[here], test=trials.test[here], target=trials.target[here])
        scores[here] = backend.score(basis.embeddings, part)
    return scores


def _figures(
    basis: Basis,
    trials: Trials,
    scores: NDArray[np.float32],
    quality: NDArray[np.float64],
    calibration: AffineCalibration,
) -> dict[str, Any]:
    """How the calibration does on its own trials: all of them, and those of two whole recordings."""
    llrs = calibration.transform(scores, quality)
    whole = basis.whole[trials.enroll] & basis.whole[trials.test]
    figures: dict[str, Any] = {}
    for name, chosen in (("all", np.ones(len(trials), dtype=bool)), ("whole_recordings", whole)):
        target = trials.target & chosen
        nontarget = ~trials.target & chosen
        if target.any() and nontarget.any():
            roc = ROC.from_scores(llrs[target], llrs[nontarget])
            figures[name] = {
                "num_target_trials": int(target.sum()),
                "num_nontarget_trials": int(nontarget.sum()),
                "eer": roc.eer().eer,
                "cllr": roc.cllr(),
                "min_cllr": roc.min_cllr(),
            }
    return figures
