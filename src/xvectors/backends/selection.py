"""Select the back-end of a system: fit candidates on training speakers, and compare them on held-out speakers.

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
from xvectors.metrics.bootstrap import ScoredTrials, compare_systems
from xvectors.metrics.roc import ROC
from xvectors.text import nearest
from xvectors.trials.pairs import Trials, all_pairs
from xvectors.trials.sampling import sample_recordings

P_TARGET = 0.01  # of minDCF
CONFIDENCE = 0.9
DRAWS = 200  # of speakers
EACH, AT_MOST = 10, 600  # recordings: 180,000 trials


@dataclass(frozen=True, kw_only=True)
class CandidateResult:
    """Result of a candidate on the held-out speakers.

    `cllr` is in bits, after an affine calibration; `difference` is the difference to the reference, with its interval
    over speakers. `left_out` says why a candidate could not be used; its numbers are then NaN.
    """

    name: str
    eer: float = float("nan")
    min_dcf: float = float("nan")
    cllr: float = float("nan")
    difference: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    left_out: str = ""


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
    domains: ArrayLike | None = None,
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
    domains
        The domain of each of the m rows [m]; they are compared within their domain only. Default: all are of one.
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
    rows, numbers = labeled_rows(embeddings, speakers)
    some = sample_recordings(numbers, each=EACH, at_most=AT_MOST, seed=seed)
    rows, numbers = rows[some], numbers[some]
    trials = all_pairs(numbers)
    if domains is not None:
        trials = _within(trials, np.asarray(domains)[some])
    resample = ScoredTrials.of(trials.target, numbers[trials.enroll], numbers[trials.test])
    fitted: dict[str, Backend] = {}
    llrs: dict[str, NDArray[np.float64]] = {}
    left_out: dict[str, str] = {}
    for name, make in candidates.items():
        try:
            fitted[name] = make().fit(training_embeddings, training_speakers)
            complete(fitted[name])
            llrs[name] = _calibrated(fitted[name], rows, trials)
        except (ConfigError, ManifestError, ShapeError) as error:
            if name == reference:
                raise ManifestError(f"the reference {name} cannot be used: {error}") from error
            left_out[name] = str(error)
    figures = tuple(
        CandidateResult(name=name, left_out=left_out[name])
        if name in left_out
        else _measure(name, llrs[name], llrs[reference], trials.target, resample, seed)
        for name in candidates
    )
    best = min((row for row in figures if not row.left_out), key=lambda row: (row.cllr, row.name != reference))
    if best.name == reference:
        reason = "the least Cllr on held-out speakers"
    elif best.high < 0:
        reason = f"a Cllr on held-out speakers {-best.difference:.3f} bits below that of {reference}"
    else:
        gain, ends = -best.difference, f"{-best.high:.3f} to {-best.low:.3f}"
        reason = f"{best.name} has a Cllr lower by {gain:.3f} bits, but the {100 * CONFIDENCE:g} % interval is {ends}"
    name = best.name if best.name == reference or best.high < 0 else reference
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


def _within(trials: Trials, domains: NDArray[Any]) -> Trials:
    kept = domains[trials.enroll] == domains[trials.test]
    return Trials(enroll=trials.enroll[kept], test=trials.test[kept], target=trials.target[kept])


def _calibrated(backend: Backend, rows: NDArray[Any], trials: Trials) -> NDArray[np.float64]:
    scores = backend.score(rows, trials)
    return AffineCalibration().fit(scores, trials.target).transform(scores)


def _measure(
    name: str,
    llrs: NDArray[np.float64],
    reference: NDArray[np.float64],
    target: NDArray[np.bool_],
    resample: ScoredTrials,
    seed: int,
) -> CandidateResult:
    roc = ROC.from_scores(llrs[target], llrs[~target])
    difference = low = high = 0.0
    if llrs is not reference:
        compared = compare_systems(
            reference, llrs, resample, {"cllr": ROC.cllr}, num_draws=DRAWS, confidence=CONFIDENCE, seed=seed
        )["cllr"].difference
        difference, low, high = compared.value, compared.low, compared.high
    return CandidateResult(
        name=name,
        eer=roc.eer().eer,
        min_dcf=roc.min_dcf(P_TARGET).min_dcf,
        cllr=roc.cllr(),
        difference=difference,
        low=low,
        high=high,
    )
