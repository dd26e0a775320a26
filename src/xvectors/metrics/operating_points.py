"""Operating points: thresholds to deploy, and whether the trials support them.

The rule of 30 (Doddington et al., Speech Communication 31, 2000) requires 30 expected errors: the true rate is then
within 30 % of the measured one with 90 % confidence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xvectors.errors import ConfigError
from xvectors.metrics.bootstrap import MIN_SPEAKERS, Interval, ScoredTrials, speaker_intervals
from xvectors.metrics.detection_cost import cost_weights
from xvectors.metrics.roc import ROC

MIN_ERRORS = 30


@dataclass(frozen=True)
class EqualErrors:
    """The threshold of the plain equal error rate."""

    @property
    def name(self) -> str:
        return "EER"

    def threshold(self, roc: ROC) -> float:
        return roc.eer().threshold


@dataclass(frozen=True)
class FARAtMost:
    """The lowest threshold that accepts at most this share of non-targets. Raises ConfigError outside (0, 1)."""

    far: float

    def __post_init__(self) -> None:
        if not 0.0 < self.far < 1.0:
            raise ConfigError(f"the false acceptance rate is {self.far}: give a share above 0 and below 1")

    @property
    def name(self) -> str:
        return f"FAR {100 * self.far:g} %"

    def threshold(self, roc: ROC) -> float:
        return roc.midway(roc.index_at_far(self.far))


@dataclass(frozen=True)
class LeastCost:
    """The threshold of the minimum detection cost. Raises ConfigError unless 0 < prior < 1 and costs are positive."""

    p_target: float = 0.01
    c_miss: float = 1.0
    c_fa: float = 1.0

    def __post_init__(self) -> None:
        cost_weights(self.p_target, self.c_miss, self.c_fa)

    @property
    def settings(self) -> tuple[float, float, float]:
        """p_target, c_miss, c_fa."""
        return self.p_target, self.c_miss, self.c_fa

    @property
    def label(self) -> str:
        """The text in parentheses: the prior, and costs other than 1."""
        costs = "" if self.c_miss == self.c_fa == 1 else f", {self.c_miss:g}, {self.c_fa:g}"
        return f"{self.p_target:g}{costs}"

    @property
    def name(self) -> str:
        return f"minDCF({self.label})"

    def threshold(self, roc: ROC) -> float:
        return roc.min_dcf(*self.settings).threshold


Criterion = EqualErrors | FARAtMost | LeastCost
DEFAULT_COST = LeastCost()
RATE_CRITERIA: tuple[Criterion, ...] = (EqualErrors(), FARAtMost(0.01), FARAtMost(0.001))
DEFAULT_CRITERIA: tuple[Criterion, ...] = (*RATE_CRITERIA, DEFAULT_COST)


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """A threshold and its errors: scores >= threshold are accepted. Rates are shares.

    If the trials cannot support the request, `threshold` and everything derived from it are None, and `note` says what
    is needed. `note` also marks rates based on fewer than 30 errors.
    """

    criterion: Criterion
    num_target: int
    num_nontarget: int
    threshold: float | None = None
    threshold_interval: Interval | None = None
    """Interval over speakers; None if not requested."""
    frr: float | None = None
    far: float | None = None
    num_misses: int | None = None
    num_false_accepts: int | None = None
    num_miss_speakers: int | None = None
    num_false_accept_speakers: int | None = None
    """Number of speakers with misses, and with false accepts; None until `count_error_speakers` counts them."""
    note: str = ""

    @property
    def name(self) -> str:
        return self.criterion.name


def operating_points(roc: ROC, criteria: Sequence[Criterion] = DEFAULT_CRITERIA) -> list[OperatingPoint]:
    """Return the threshold of each criterion, and whether the trials support it, without intervals.

    The rule of 30 assumes independent trials. Trials of few speakers support less, as `count_error_speakers` and
    `threshold_intervals` show.
    """
    return [_point(criterion, roc) for criterion in criteria]


def count_error_speakers(
    points: Sequence[OperatingPoint],
    scores: ArrayLike,
    target: ArrayLike,
    enroll_speaker: ArrayLike,
    test_speaker: ArrayLike,
) -> list[OperatingPoint]:
    """Add the numbers of speakers with errors to the points of `operating_points` on the same trials [m].

    A FAR whose false accepts come from fewer than 5 speakers is withdrawn, since false accepts of one pair of speakers
    are correlated.
    """
    values, labels = np.asarray(scores), np.asarray(target, dtype=bool)
    sides = np.asarray(enroll_speaker), np.asarray(test_speaker)

    def speakers(rows: NDArray[np.bool_]) -> int:
        return len(np.union1d(sides[0][rows], sides[1][rows]))

    found = []
    for point in points:
        if point.threshold is None:
            found.append(point)
            continue
        accepted = values >= np.asarray(point.threshold).astype(values.dtype)
        missed, let_in = speakers(labels & ~accepted), speakers(~labels & accepted)
        if isinstance(point.criterion, FARAtMost) and let_in < MIN_SPEAKERS:
            note = (
                f"{point.name} rests on {point.num_false_accepts:,} false accepts of {let_in} speakers, "
                f"fewer than {MIN_SPEAKERS}"
            )
            point = replace(_unsupported(point), note=note)
        else:
            point = replace(point, num_miss_speakers=missed, num_false_accept_speakers=let_in)
        found.append(point)
    return found


def threshold_intervals(
    points: Sequence[OperatingPoint],
    scores: ArrayLike,
    trials: ScoredTrials,
    *,
    num_draws: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> list[OperatingPoint]:
    """Add an interval over speakers to each threshold of `operating_points`.

    `scores` [m] are those of the points, in the order of `trials`. Other arguments and errors are those of
    `speaker_intervals`.
    """
    chosen = {str(at): point.criterion.threshold for at, point in enumerate(points) if point.threshold is not None}
    found = speaker_intervals(scores, trials, chosen, num_draws=num_draws, confidence=confidence, seed=seed)
    return [replace(point, threshold_interval=found.get(str(at))) for at, point in enumerate(points)]


def _unsupported(point: OperatingPoint) -> OperatingPoint:
    return OperatingPoint(criterion=point.criterion, num_target=point.num_target, num_nontarget=point.num_nontarget)


def _point(criterion: Criterion, roc: ROC) -> OperatingPoint:
    point = OperatingPoint(
        criterion=criterion, num_target=round(roc.num_target), num_nontarget=round(roc.num_nontarget)
    )
    if isinstance(criterion, FARAtMost):
        needed = math.ceil(MIN_ERRORS / criterion.far - 1e-9)
        if point.num_nontarget < needed:
            note = (
                f"{point.name} needs {needed:,} non-target trials ({MIN_ERRORS} expected false accepts), "
                f"there are {point.num_nontarget:,}"
            )
            return replace(point, note=note)
    threshold = criterion.threshold(roc)
    frr, far = roc.rates_at(threshold)
    misses, accepts = round(frr * roc.num_target), round(far * roc.num_nontarget)
    made = ((misses, "miss", "misses"), (accepts, "false accept", "false accepts"))
    scarce = [f"{number} {one if number == 1 else more}" for number, one, more in made if number < MIN_ERRORS]
    note = f"rests on {' and '.join(scarce)}, fewer than {MIN_ERRORS}" if scarce else ""
    return replace(
        point, threshold=threshold, frr=frr, far=far, num_misses=misses, num_false_accepts=accepts, note=note
    )
