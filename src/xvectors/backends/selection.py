"""Select the back-end of a system: fit candidates on training speakers, and compare them on held-out speakers.

A back-end that is best on recordings like those of the training may be worst on others, whose scores drift as a whole.
So the comparison can include trials of recordings under made shifts, with the calibration of the unshifted ones.

Test speakers take no part. Speakers that the network was trained on are further apart than other speakers, so they can
fit a back-end and serve as a cohort, but cannot select one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xvectors.backends.backend import BACKENDS, Backend
from xvectors.backends.calibration import AffineCalibration
from xvectors.backends.estimator import labeled_rows
from xvectors.errors import ConfigError, ManifestError, ShapeError
from xvectors.metrics.bootstrap import Interval, ScoredTrials, compare_systems
from xvectors.metrics.roc import ROC
from xvectors.text import nearest
from xvectors.trials.pairs import Trials, all_pairs
from xvectors.trials.sampling import sample_recordings

P_TARGET = 0.01  # of minDCF
CONFIDENCE = 0.9
DRAWS = 200  # of speakers
MAX_LOSS = 0.01
"""A candidate that is better under shifts may have this much more Cllr, in bits, than the best without."""
WEIGHT_STEPS = 20
"""Weights of trials are whole numbers from this on, so that parts weigh alike within 3 %."""
EACH, AT_MOST = 10, 600  # recordings: 180,000 trials


@dataclass(frozen=True, kw_only=True)
class CandidateResult:
    """Result of a candidate on the held-out speakers.

    `cllr` is in bits, after an affine calibration, and `cllr_shifted` that of the trials under shifts with the same
    calibration, NaN without such trials. `difference` is the difference of `cllr` to the reference, with its
    interval over speakers. `left_out` says why a candidate could not be used; its numbers are then NaN.
    """

    name: str
    eer: float = float("nan")
    min_dcf: float = float("nan")
    cllr: float = float("nan")
    cllr_shifted: float = float("nan")
    difference: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    left_out: str = ""

    @property
    def criterion(self) -> float:
        """The mean of Cllr and Cllr under shifts; Cllr without these."""
        return self.cllr if np.isnan(self.cllr_shifted) else (self.cllr + self.cllr_shifted) / 2


@dataclass(frozen=True, kw_only=True, eq=False)
class Selection:
    """The selected back-end, fitted, and the results of all candidates."""

    name: str
    backend: Backend
    reference: str
    reason: str
    seed: int
    num_training_speakers: int
    num_speakers: int
    figures: tuple[CandidateResult, ...]

    def table(self) -> dict[str, Any]:
        """Return the selection and its results as plain values for TOML or JSON."""
        rows = [{key: value for key, value in asdict(row).items() if value == value} for row in self.figures]
        return {
            "name": self.name,
            "reference": self.reference,
            "reason": self.reason,
            "p_target": P_TARGET,
            "confidence": CONFIDENCE,
            "seed": self.seed,
            "num_training_speakers": self.num_training_speakers,
            "num_speakers": self.num_speakers,
            "candidates": rows,
        }


def select_backend(
    training_embeddings: ArrayLike,
    training_speakers: ArrayLike,
    embeddings: ArrayLike,
    speakers: ArrayLike,
    candidates: Mapping[str, Callable[[], Backend]] = BACKENDS,
    *,
    trials: Trials | None = None,
    shifted: Trials | None = None,
    reference: str = "cosine",
    complete: Callable[[Backend], object] = lambda backend: None,
    seed: int = 0,
) -> Selection:
    """Fit every candidate on training speakers, and select the one with the least Cllr on held-out speakers.

    With few speakers the best result may be luck: a candidate is preferred to the reference only if the 90 % interval
    of its gain over draws of speakers excludes 0.

    Parameters
    ----------
    training_embeddings
        [n, D], with the speaker of each, numbers or names [n].
    embeddings
        [m, D] of at least five other speakers, whom the network was not trained on either.
    candidates
        Factories of back-ends by name. Among equally good ones the reference is chosen, otherwise the first.
    trials
        Trials between the m rows. Default: all pairs of up to 600 rows, equally many of each speaker.
    shifted
        More trials between the m rows, of recordings that are unlike the others, such as copies under made shifts.
        The scores are calibrated on `trials` alone. Among candidates whose Cllr on `trials` is at most 0.01 bits above
        that of the selected one, another is taken if the mean of both Cllrs is less, by an interval that excludes 0.
        They need `trials` to be given.
    reference
        The candidate to prefer in doubt.
    complete
        Called with every candidate once it is fitted, such as to give it another cohort.
    seed
        Determines the choice of recordings and the bootstrap draws.

    Raises
    ------
    ConfigError
        No candidates, or none of the reference's name.
    ManifestError
        The reference cannot be fitted or calibrated; fewer than five speakers, or trials of one kind.
    ShapeError
        Unusable embeddings, or not one speaker a row.
    """
    if reference not in candidates:
        raise ConfigError(f"the reference {reference!r} is not among the candidates{nearest(reference, candidates)}")
    if shifted is not None and trials is None:
        raise ConfigError("trials under shifts are given without the trials to calibrate on; give both")
    rows, numbers = labeled_rows(embeddings, speakers)
    if trials is None:
        some = sample_recordings(numbers, each=EACH, at_most=AT_MOST, seed=seed)
        rows, numbers = rows[some], numbers[some]
        trials = all_pairs(numbers)
    judged = trials if shifted is None else _joined(trials, shifted)
    weight = None if shifted is None else _equal_weights(judged.target, len(trials))
    plain = ScoredTrials.of(trials.target, numbers[trials.enroll], numbers[trials.test])
    resample = ScoredTrials.of(judged.target, numbers[judged.enroll], numbers[judged.test], weight)
    fitted: dict[str, Backend] = {}
    llrs: dict[str, NDArray[np.float64]] = {}
    left_out: dict[str, str] = {}
    for name, make in candidates.items():
        try:
            fitted[name] = make().fit(training_embeddings, training_speakers)
            complete(fitted[name])
            scores = fitted[name].score(rows, judged)
            calibration = AffineCalibration().fit(scores[: len(trials)], trials.target)
            llrs[name] = calibration.transform(scores)
        except (ConfigError, ManifestError, ShapeError) as error:
            if name == reference:
                raise ManifestError(f"the reference {name} cannot be used: {error}") from error
            left_out[name] = str(error)
    figures = tuple(
        CandidateResult(name=name, left_out=left_out[name])
        if name in left_out
        else _measure(name, llrs[name], llrs[reference], len(trials), plain, judged.target, seed)
        for name in candidates
    )
    usable = {row.name: row for row in figures if not row.left_out}
    best = min(usable.values(), key=lambda row: (row.cllr, row.name != reference))
    name = best.name if best.name == reference or best.high < 0 else reference
    if best.name == reference:
        reason = "the least Cllr on held-out speakers"
    elif best.high < 0:
        reason = f"a Cllr on held-out speakers {-best.difference:.3f} bits below that of {reference}"
    else:
        gain, ends = -best.difference, f"{-best.high:.3f} to {-best.low:.3f}"
        reason = f"{best.name} has a Cllr lower by {gain:.3f} bits, but the {100 * CONFIDENCE:g} % interval is {ends}"
    if shifted is not None:
        near = [row for row in usable.values() if row.name == name or row.cllr <= usable[name].cllr + MAX_LOSS]
        steady = min(near, key=lambda row: (row.criterion, row.name != name))
        if steady.name != name:
            gained = _compared(llrs[name], llrs[steady.name], resample, seed)
            if gained.high < 0:
                reason = (
                    f"a Cllr on held-out speakers, as recorded and under made shifts, {-gained.value:.3f} bits below "
                    f"that of {name}"
                )
                name = steady.name
    return Selection(
        name=name,
        backend=fitted[name],
        reference=reference,
        reason=reason,
        seed=seed,
        num_training_speakers=len(np.unique(np.asarray(training_speakers))),
        num_speakers=len(np.unique(numbers)),
        figures=figures,
    )


def _joined(trials: Trials, shifted: Trials) -> Trials:
    return Trials(
        enroll=np.concatenate([trials.enroll, shifted.enroll]),
        test=np.concatenate([trials.test, shifted.test]),
        target=np.concatenate([trials.target, shifted.target]),
    )


def _equal_weights(target: NDArray[np.bool_], num_plain: int) -> NDArray[np.int64]:
    """Return weights [m] by which the first `num_plain` trials count as much as the others, in targets and others."""
    plain = np.arange(len(target)) < num_plain
    groups = [(plain == first) & (target == kind) for first in (True, False) for kind in (True, False)]
    most = max(int(np.count_nonzero(group)) for group in groups)
    weight = np.zeros(len(target), dtype=np.int64)
    for group in groups:
        weight[group] = round(WEIGHT_STEPS * most / max(1, int(np.count_nonzero(group))))
    return weight


def _measure(
    name: str,
    llrs: NDArray[np.float64],
    reference: NDArray[np.float64],
    num_plain: int,
    plain: ScoredTrials,
    target: NDArray[np.bool_],
    seed: int,
) -> CandidateResult:
    roc = _roc(llrs[:num_plain], target[:num_plain])
    shifted = _roc(llrs[num_plain:], target[num_plain:]) if num_plain < len(llrs) else None
    difference = low = high = 0.0
    if llrs is not reference:
        compared = _compared(reference[:num_plain], llrs[:num_plain], plain, seed)
        difference, low, high = compared.value, compared.low, compared.high
    return CandidateResult(
        name=name,
        eer=roc.eer().eer,
        min_dcf=roc.min_dcf(P_TARGET).min_dcf,
        cllr=roc.cllr(),
        cllr_shifted=float("nan") if shifted is None else shifted.cllr(),
        difference=difference,
        low=low,
        high=high,
    )


def _roc(llrs: NDArray[np.float64], target: NDArray[np.bool_]) -> ROC:
    return ROC.from_scores(llrs[target], llrs[~target])


def _compared(reference: NDArray[np.float64], llrs: NDArray[np.float64], resample: ScoredTrials, seed: int) -> Interval:
    return compare_systems(
        reference, llrs, resample, {"cllr": ROC.cllr}, num_draws=DRAWS, confidence=CONFIDENCE, seed=seed
    )["cllr"].difference
