"""Learn how the condition of recordings changes LLRs, from copies of the calibration set under made shifts.

Trials are between two copies under the same shift, as if all recordings were made so, and between a recording as it is
and a copy, as if one side was. Each shift, way of pairing and domain weighs the same, targets as much as non-targets.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xvectors.audio.condition import CONDITION_NAMES, LEAST_SPREAD
from xvectors.backends import ConditionCalibration
from xvectors.metrics import ROC
from xvectors.trials import Trials
from xvectors.trials.pairs import speaker_numbers
from xvectors.verification.calibration_set import Basis, Shifted, ShiftTrials, shift_trials
from xvectors.verification.drift import USUAL_SHARE
from xvectors.verification.shift import WORTH_A_NOTE
from xvectors.verification.verifier import Verifier

MIN_SPEAKERS = 10
"""With fewer speakers, a few voices would decide what counts as a shift."""
FOLDS = 10


def learn_condition(
    verifier: Verifier, basis: Basis, shifted: Shifted, *, seed: int = 0
) -> tuple[ConditionCalibration | None, dict[str, Any]]:
    """Learn the calibration for conditions, which comes after `verifier.calibration`.

    Parameters
    ----------
    verifier
        A calibrated back-end.
    basis
        The calibration set, with the condition of each recording.
    shifted
        Copies of its recordings.
    seed
        Seed of the choice of non-target trials.

    Returns
    -------
    The calibration, None with fewer than `MIN_SPEAKERS` speakers with two recordings; and a table for `figures`: for
    each shift and way of pairing EER, Cllr without and with the calibration for conditions, and minimum Cllr, on the
    trials that it was learned from.
    """
    whole = basis.take(basis.whole)
    copies = shifted.take(np.isin(shifted.basis.speakers, whole.speakers))
    _, counts = np.unique(whole.speakers, return_counts=True)
    if verifier.calibration is None or whole.condition is None or copies.basis.condition is None:
        return None, {}
    if np.count_nonzero(counts >= 2) < MIN_SPEAKERS or not np.isfinite(whole.condition).any(axis=0).all():
        return None, {}
    rows = np.concatenate([whole.embeddings, copies.basis.embeddings])
    seconds = np.concatenate([whole.duration_s, copies.basis.duration_s])
    measures = np.concatenate([whole.condition, copies.basis.condition])
    groups = list(shift_trials(whole, copies, np.random.default_rng(seed)))
    trials = Trials(
        enroll=np.concatenate([group.enroll for group in groups]),
        test=np.concatenate([group.test for group in groups]),
        target=np.concatenate([group.target for group in groups]),
    )
    unbounded = replace(verifier, condition=None, bounds=None)
    llrs = unbounded.trial_llrs(verifier.score(rows, trials), trials, rows, seconds)
    weights = np.concatenate([
        np.where(group.target, 0.5 / group.target.sum(), 0.5 / (~group.target).sum()) for group in groups
    ])  # fmt: skip
    fitted = ConditionCalibration(CONDITION_NAMES, LEAST_SPREAD).fit_range(whole.condition)
    steady = fitted.steady(measures, seconds)  # as `Verifier.llrs` will see them
    sides = steady[trials.enroll], steady[trials.test]
    fitted.fit(whole.condition, llrs, trials.target, *sides, weights)
    return fitted, {"shifts": _figures(groups, trials, llrs, fitted.transform(llrs, *sides))}


def with_condition(verifier: Verifier, basis: Basis, shifted: Shifted | None, *, seed: int = 0) -> Verifier:
    """Return the verifier with its calibration for conditions, if one can be learned.

    The basis gets the share of shifted recordings among those of the calibration set (`usual_share_shifted`).
    Parameters are those of `learn_condition`; without copies, nothing changes.
    """
    if shifted is None:
        return verifier
    whole = basis.take(basis.whole & ~np.isin(basis.speakers, verifier.basis.get("fitted_speakers", [])))
    condition, figures = learn_condition(verifier, whole, shifted, seed=seed)
    share = None if condition is None else usual_share_shifted(whole)
    facts = {**verifier.basis, **({} if share is None else {USUAL_SHARE: share})}
    return replace(verifier, condition=condition, basis=facts, figures={**verifier.figures, **figures})


def usual_share_shifted(whole: Basis) -> float | None:
    """Return the share of recordings that are shifted by 1 or more from those of the other speakers.

    The usual range is learned without a tenth of the speakers at a time, and measured on these: recordings that took
    part are within it too often. None where a measure is known for such a tenth only.
    """
    if whole.condition is None:
        return None
    known = ~np.isnan(whole.condition).all(axis=1)
    condition, fold = whole.condition[known], speaker_numbers(whole.speakers[known]) % FOLDS
    num_shifted = 0
    for number in np.unique(fold):
        rest = condition[fold != number]
        if not np.isfinite(rest).any(axis=0).all():
            return None
        usual = ConditionCalibration(CONDITION_NAMES, LEAST_SPREAD).fit_range(rest)
        excess = usual.excess(condition[fold == number])
        num_shifted += int(np.count_nonzero(excess.max(axis=1) >= WORTH_A_NOTE))
    return num_shifted / len(condition)


def _figures(
    groups: list[ShiftTrials], trials: Trials, before: NDArray[np.float64], after: NDArray[np.float64]
) -> list[dict[str, Any]]:
    """Measure each shift and way of pairing, all domains together."""
    of = np.repeat(np.arange(len(groups)), [len(group.target) for group in groups])
    rows: list[dict[str, Any]] = []
    for shift, paired in dict.fromkeys((group.shift, group.paired) for group in groups):
        alike = [number for number, group in enumerate(groups) if (group.shift, group.paired) == (shift, paired)]
        chosen = np.isin(of, alike)
        target, nontarget = chosen & trials.target, chosen & ~trials.target
        unaware, roc = (ROC.from_scores(values[target], values[nontarget]) for values in (before, after))
        rows.append({
            "shift": shift,
            "paired": paired,
            "eer": roc.eer().eer,
            "cllr_before": unaware.cllr(),
            "cllr": roc.cllr(),
            "min_cllr": roc.min_cllr(),
        })  # fmt: skip
    return rows
