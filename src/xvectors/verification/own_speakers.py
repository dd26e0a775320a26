"""Learn a verifier from one set of speakers, where no training speakers are known: for embeddings of any network.

Half of the speakers fit the back-ends, the others select and calibrate one. Cosine needs no fit, so that all of them
calibrate it. How far the LLRs can be trusted is found by leaving out speakers in turn.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xvectors.backends import AffineCalibration, Backend, make_backend
from xvectors.errors import ManifestError, ShapeError, TrainingError
from xvectors.metrics import ROC
from xvectors.text import count
from xvectors.trials.pairs import speaker_numbers
from xvectors.verification.calibration_set import Basis, Shifted, all_trials, some_recordings
from xvectors.verification.learning import COSINE, learn_verifier
from xvectors.verification.magnitude import trial_quality
from xvectors.verification.verifier import P_TARGET, Verifier

MIN_TO_DIVIDE = 10
"""With fewer speakers, all calibrate cosine: halves would say nothing about back-ends."""
MIN_COMFORTABLE = 20
"""Speakers, with ten recordings each, from which on LLRs can be relied on."""
COMFORTABLE_RECORDINGS = 10
FOLDS = 10
MAX_ROWS_LEFT_OUT = 1000
"""Largest number of recordings and crops in the fits with speakers left out: half a million trials."""


def learn_from_own(
    basis: Basis,
    *,
    shifted: Shifted | None = None,
    backend_name: str | None = None,
    complete: Callable[[Backend], object] = lambda backend: None,
    p_target: float = P_TARGET,
    seed: int = 0,
) -> Verifier:
    """Select, fit and calibrate a back-end on the speakers of `basis`, each in only one of these roles.

    Other parameters are those of `learn_verifier`. The verifier's `basis` also has `fitted_speakers`, and `trust`: the
    standard error of LLRs at the threshold, over speakers. Its `figures` have `speakers_left_out`: results on speakers
    who took no part in the calibration that they are measured with.

    Raises
    ------
    ManifestError
        Fewer than two speakers, or no speaker with two recordings; fewer than ten for a back-end that is fitted.
    ConfigError
        A back-end that does not exist; a prior outside (0, 1).
    ShapeError
        Embeddings that cannot be scored, or targets that score lower than non-targets.
    """
    names, counts = np.unique(basis.speakers[basis.whole], return_counts=True)
    repeated = names[counts >= 2]
    fitted: NDArray[np.str_] = names[:0]
    if backend_name not in (None, COSINE) and len(repeated) < MIN_TO_DIVIDE:
        make_backend(str(backend_name))
        raise ManifestError(
            f"back-end {backend_name} is fitted on half of the speakers, and calibrated on the others; that takes "
            f"{MIN_TO_DIVIDE} with two recordings, and there are {len(repeated)}: give more, or ask for {COSINE}"
        )
    if backend_name == COSINE or (backend_name is None and len(repeated) < MIN_TO_DIVIDE):
        verifier = learn_verifier(basis, backend_name=COSINE, complete=complete, p_target=p_target, seed=seed)
        if backend_name is None:
            reason = f"{count(len(repeated), 'speaker')} with two recordings; to choose takes {MIN_TO_DIVIDE}"
            verifier = replace(verifier, backend_table={"reason": reason})
    else:
        fitted = np.sort(np.random.default_rng(seed).permutation(repeated)[: len(repeated) // 2])
        of_fitted = np.isin(basis.speakers, fitted)
        fit = basis.take(of_fitted & basis.whole)
        verifier = learn_verifier(
            basis.take(~of_fitted),
            (fit.embeddings, fit.speakers),
            shifted=shifted,
            backend_name=backend_name,
            complete=complete,
            p_target=p_target,
            seed=seed,
        )
        if verifier.name == COSINE:
            chosen = verifier.backend_table
            verifier = learn_verifier(basis, backend_name=COSINE, complete=complete, p_target=p_target, seed=seed)
            verifier, fitted = replace(verifier, backend_table=chosen), fitted[:0]
    figures, error = _leave_out_in_turn(verifier, basis.take(~np.isin(basis.speakers, fitted)), seed)
    facts: dict[str, Any] = {**verifier.basis, "fitted_speakers": fitted.tolist()}
    if error is not None:
        facts["trust"] = {"llr_standard_error": error}
    return replace(verifier, basis=facts, figures={**verifier.figures, **figures})


def trust_lines(verifier: Verifier) -> list[str]:
    """Say how far the LLRs of `learn_from_own` can be trusted, in sentences."""
    facts = verifier.basis
    num_speakers, num_recordings = int(facts["num_speakers"]), int(facts["num_recordings"])
    lines = []
    if "trust" in facts:
        error = float(facts["trust"]["llr_standard_error"])
        lines.append(
            f"LLRs near the threshold have a standard error of {error:.2f} over draws of "
            f"{count(num_speakers, 'speaker')}: a factor of {math.exp(error):.1f} in the odds"
        )
    else:
        lines.append("target and non-target trials do not overlap, or are too few, to say how exact the LLRs are")
    each = num_recordings / num_speakers
    if num_speakers < MIN_COMFORTABLE or each < COMFORTABLE_RECORDINGS:
        lines.append(
            f"calibrated on {count(num_speakers, 'speaker')} with {each:.1f} recordings each; near the threshold, rely "
            f"on decisions from about {MIN_COMFORTABLE} speakers with {COMFORTABLE_RECORDINGS} recordings each on"
        )
    return lines


def _leave_out_in_turn(verifier: Verifier, basis: Basis, seed: int) -> tuple[dict[str, Any], float | None]:
    """Calibrate without one group of speakers at a time, and measure that group.

    Returns figures of the groups, and the delete-a-group jackknife's standard error of the LLR at the threshold.
    Both are empty where all targets score above all non-targets, since no LLR has a bound there.
    """
    some = some_recordings(basis, seed, MAX_ROWS_LEFT_OUT)
    trials = all_trials(some)
    scores = verifier.backend.score(some.embeddings, trials)
    quality, names = trial_quality(some, trials, magnitude=verifier.uses_magnitude)
    calibration, numbers = verifier.calibration, speaker_numbers(some.speakers)
    num_groups = min(FOLDS, (int(numbers.max()) + 1) // 2)
    if calibration is None or num_groups < 3 or scores[trials.target].min() > scores[~trials.target].max():
        return {}, None
    shuffled = np.random.default_rng(seed).permutation(int(numbers.max()) + 1)
    group_of = np.empty(len(shuffled), dtype=np.int64)
    group_of[shuffled] = np.arange(len(shuffled)) % num_groups
    left, right = group_of[numbers[trials.enroll]], group_of[numbers[trials.test]]
    llrs = calibration.transform(scores, quality)
    at = int(np.argmin(np.abs(llrs - verifier.threshold)))
    measured, labels, at_threshold = [], [], []
    for group in range(num_groups):
        kept, out = (left != group) & (right != group), (left == group) & (right == group)
        try:
            without = AffineCalibration(verifier.p_target).fit(scores[kept], trials.target[kept], quality[kept], names)
        except (ManifestError, ShapeError, TrainingError):
            continue
        at_threshold.append(float(without.transform(scores[at : at + 1], quality[at : at + 1])[0]))
        measured.append(without.transform(scores[out], quality[out]))
        labels.append(trials.target[out])
    if len(at_threshold) < 3:
        return {}, None
    spread = np.array(at_threshold)
    error = math.sqrt((len(spread) - 1) / len(spread) * float(np.square(spread - spread.mean()).sum()))
    return _figures(np.concatenate(measured), np.concatenate(labels)), error


def _figures(llrs: NDArray[np.float64], target: NDArray[np.bool_]) -> dict[str, Any]:
    if not target.any() or target.all():
        return {}
    roc = ROC.from_scores(llrs[target], llrs[~target])
    return {
        "speakers_left_out": {
            "num_target_trials": int(target.sum()),
            "num_nontarget_trials": int((~target).sum()),
            "eer": roc.eer().eer,
            "cllr": roc.cllr(),
            "min_cllr": roc.min_cllr(),
        }
    }
