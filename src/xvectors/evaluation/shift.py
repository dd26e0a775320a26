"""How far the test recordings are from the calibration set, and what that does to LLRs and answers.

The answers are those of `verification.decision` at equal priors: a statement needs a probability, or there is no
answer. The curve of answers given against answers that are wrong is a risk-coverage curve (El-Yaniv and Wiener, JMLR
2010).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from xvectors.metrics import ROC
from xvectors.text import short_repr
from xvectors.trials import Trials
from xvectors.verification.conditions import MIN_SPEAKERS
from xvectors.verification.decision import EARLIER_VERSION as EARLIER_VERSION
from xvectors.verification.decision import MIN_PROBABILITY as MIN_PROBABILITY
from xvectors.verification.shift import EXCESS_WORDS, WORTH_A_NOTE
from xvectors.verification.verifier import Verifier

DEGREES = (0.0, WORTH_A_NOTE, 4.0, math.inf)
"""Edges of the degrees of shift; a shift on an edge belongs to the degree above."""
PROBABILITIES = (
    *(0.5, 0.55, 0.6, 0.65, 0.7, 0.75, MIN_PROBABILITY, 0.85, 0.9),
    *(0.925, 0.95, 0.96, 0.97, 0.98, 0.99, 0.995, 0.999),
)
"""Probabilities that an answer may need, of the risk-coverage curve."""
NOTABLE_SHARE = 0.2
"""The verdict warns where a larger share of the recordings is shifted."""
ROUNDING = 1e-12
"""LLRs this far below a limit reach it, such as log(4) for a probability of 0.8."""

NOT_LEARNED = (
    "the calibration does not know conditions: `xvectors calibrate DIR --data RECORDINGS` learns them from recordings "
    f"of {MIN_SPEAKERS} speakers or more, two or more of each; embeddings alone are not enough"
)
NOT_MEASURED = (
    "the conditions of the test recordings are not known: embed them with `xvectors embed`, which measures conditions"
)


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Trials of one kind, those that get an answer, and the answers that are wrong."""

    num_trials: int
    num_answers: int
    num_wrong: int

    @property
    def wrong(self) -> float | None:
        """The share of the answers that are wrong; None without answers."""
        return self.num_wrong / self.num_answers if self.num_answers else None


@dataclass(frozen=True, kw_only=True)
class Degree:
    """Trials whose larger shift of both sides is from `low` to below `high`.

    `eer`, `cllr` and `min_cllr` are None without trials of both kinds. Answers need `MIN_PROBABILITY`.
    """

    low: float
    high: float
    target: Answers
    nontarget: Answers
    eer: float | None = None
    cllr: float | None = None
    min_cllr: float | None = None

    @property
    def answered(self) -> float | None:
        """The share of trials that get an answer; None without trials."""
        num_trials = self.target.num_trials + self.nontarget.num_trials
        return (self.target.num_answers + self.nontarget.num_answers) / num_trials if num_trials else None


@short_repr()
@dataclass(frozen=True, kw_only=True, eq=False)
class RiskCoverage:
    """Answers by the probability that they need.

    Attributes
    ----------
    probability : float64 [k]
        Probability that an answer needs, rising.
    answered_target, answered_nontarget : float64 [k]
        Share of the trials of one speaker, and of two, that get an answer.
    wrong_target, wrong_nontarget : float64 [k]
        Share of these answers that are wrong; NaN without answers.
    both_possible : bool [k]
        Whether the bounds of the LLRs allow both answers. Where they allow one, the trials of the other kind get wrong
        answers alone, which says nothing of the system.
    """

    probability: NDArray[np.float64]
    answered_target: NDArray[np.float64]
    answered_nontarget: NDArray[np.float64]
    wrong_target: NDArray[np.float64]
    wrong_nontarget: NDArray[np.float64]
    both_possible: NDArray[np.bool_]


@short_repr()
@dataclass(frozen=True, kw_only=True, eq=False)
class ConditionShift:
    """The shift of the test recordings from the calibration set, and the answers at each degree of shift.

    Attributes
    ----------
    num_usual, num_shifted : int
        Recordings with a shift below `WORTH_A_NOTE`, and with that or more.
    num_untested : int
        The shifted recordings that are beyond all that the calibration was learned on; LLRs of their trials are 0.
    num_unknown : int
        Recordings whose condition is not known. They and their trials are left out of all else but the curve.
    unusual : tuple of (str, int)
        What is unusual and in how many recordings, the most frequent first.
    degrees : tuple of Degree
        The trials by degree of shift.
    coverage : RiskCoverage
        The curve over all trials.
    """

    num_usual: int
    num_shifted: int
    num_untested: int
    num_unknown: int
    unusual: tuple[tuple[str, int], ...]
    degrees: tuple[Degree, ...]
    coverage: RiskCoverage

    @property
    def num_known(self) -> int:
        return self.num_usual + self.num_shifted

    @property
    def is_notable(self) -> bool:
        """Whether enough recordings are shifted for a warning in the verdict."""
        return self.num_shifted > NOTABLE_SHARE * self.num_known


def why_no_shift(verifier: Verifier, condition: NDArray[np.float32] | None) -> str:
    """Say why a calibrated system has no `measure_shift` of recordings with conditions [n, 6]; empty if it has one."""
    if not verifier.is_calibrated:
        return ""
    if verifier.condition is None:
        return EARLIER_VERSION if verifier.bounds is None else NOT_LEARNED
    return NOT_MEASURED if condition is None or np.isnan(condition).all() else ""


def measure_shift(
    verifier: Verifier,
    condition: NDArray[np.floating] | None,
    trials: Trials,
    llrs: NDArray[np.float64] | None,
    roc: ROC,
) -> ConditionShift | None:
    """Measure the shift of recordings with conditions [n, 6], and the LLRs [m] of their trials, whose ROC is `roc`.

    The conditions are those of `Scored`. None where the system is not calibrated, its calibration does not know
    conditions, or those of the recordings are not known.
    """
    if llrs is None or condition is None or verifier.condition is None or why_no_shift(verifier, condition):
        return None
    known = ~np.isnan(condition).all(axis=1)
    excess = verifier.condition.excess(condition)
    values = excess.max(axis=1)
    numbers = np.count_nonzero(excess >= WORTH_A_NOTE, axis=0).tolist()
    found = [(words, number) for words, number in zip(EXCESS_WORDS, numbers, strict=True) if number]
    return ConditionShift(
        num_usual=int(np.count_nonzero(known & (values < WORTH_A_NOTE))),
        num_shifted=int(np.count_nonzero(known & (values >= WORTH_A_NOTE))),
        num_untested=int(np.count_nonzero(verifier.condition.is_untested(condition))),
        num_unknown=int(np.count_nonzero(~known)),
        unusual=tuple(sorted(found, key=lambda one: -one[1])),
        degrees=by_degree(np.where(known, values, np.inf), trials, llrs),
        coverage=risk_coverage(roc, verifier.bounds),
    )


def by_degree(shift: NDArray[np.float64], trials: Trials, llrs: NDArray[np.float64]) -> tuple[Degree, ...]:
    """Measure LLRs [m] of trials by the larger shift of both recordings, whose shifts are [n]; inf is left out."""
    of_recording = np.searchsorted(DEGREES[1:], shift, side="right").astype(np.int8)
    of_trial = np.maximum(of_recording[trials.enroll], of_recording[trials.test])
    found = []
    for number, (low, high) in enumerate(pairwise(DEGREES)):
        here = of_trial == number
        found.append(_degree(low, high, llrs[here & trials.target], llrs[here & ~trials.target]))
    return tuple(found)


def risk_coverage(roc: ROC, bounds: tuple[float, float] | None = None) -> RiskCoverage:
    """Return the risk-coverage curve of LLRs, which are within the bounds."""
    limits = _limits(np.array(PROBABILITIES))
    no_same_target, same_nontarget = roc.rates_at_each(limits)
    different_target, no_different_nontarget = roc.rates_at_each(np.nextafter(-limits, np.inf))
    same_target, different_nontarget = 1 - no_same_target, 1 - no_different_nontarget
    answered = same_target + different_target, same_nontarget + different_nontarget
    return RiskCoverage(
        probability=np.array(PROBABILITIES),
        answered_target=answered[0],
        answered_nontarget=answered[1],
        wrong_target=_ratio(different_target, answered[0]),
        wrong_nontarget=_ratio(same_nontarget, answered[1]),
        both_possible=np.ones_like(limits, dtype=np.bool_) if bounds is None else limits <= min(-bounds[0], bounds[1]),
    )


def _limits(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the LLRs that answers need at equal priors. An LLR of 0, as of untested recordings, never is an answer."""
    limits: NDArray[np.float64] = np.maximum(logit(probabilities) - ROUNDING, np.finfo(np.float64).tiny)
    return limits


def _degree(low: float, high: float, target: NDArray[np.float64], nontarget: NDArray[np.float64]) -> Degree:
    measured: dict[str, Any] = {}
    if len(target) and len(nontarget):
        roc = ROC.from_scores(target, nontarget)
        measured = {"eer": roc.eer().eer, "cllr": roc.cllr(), "min_cllr": roc.min_cllr()}
    return Degree(low=low, high=high, target=_answers(target), nontarget=_answers(-nontarget), **measured)


def _answers(llrs: NDArray[np.float64]) -> Answers:
    """Count the answers to trials with LLRs for the truth, [m]."""
    limit = _limits(np.array(MIN_PROBABILITY))
    right, wrong = (int(np.count_nonzero(each)) for each in (llrs >= limit, llrs <= -limit))
    return Answers(num_trials=len(llrs), num_answers=right + wrong, num_wrong=wrong)


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    shares = np.full_like(whole, np.nan)
    np.divide(part, whole, out=shares, where=whole > 0)
    return shares
