"""Learn a verifier: select a back-end, and calibrate it, with less confidence in short recordings.

The back-end is fitted on training speakers, and selected and calibrated on held-out speakers. So the calibration only
uses scores of speakers that neither network nor back-end was fitted on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xvectors.backends import BACKENDS, AffineCalibration, Backend, make_backend, select_backend
from xvectors.backends.selection import AT_MOST, EACH
from xvectors.errors import ManifestError
from xvectors.metrics import ROC
from xvectors.metrics.bootstrap import MIN_SPEAKERS
from xvectors.text import count
from xvectors.trials import Trials, sample_recordings
from xvectors.trials.pairs import speaker_numbers
from xvectors.verification.bounds import llr_bounds
from xvectors.verification.calibration_set import AS_RECORDED, Basis, Shifted, all_trials, shift_trials, some_recordings
from xvectors.verification.magnitude import magnitude_gain, trial_quality
from xvectors.verification.verifier import IMPORTED, P_TARGET, Verifier

CROP_DURATIONS_S = (0.5, 1.0, 2.0)
COSINE, NORMALIZED = "cosine", "asnorm"
CANDIDATES = (COSINE, "cosine_centered", NORMALIZED, "wccn_asnorm", "lda_plda", "lda_plda_asnorm")
"""Back-ends that are fast to fit and to score."""
MIN_IN_COHORT = 50
"""Least number of training speakers in a cohort; AS-norm uses the nearest fifth, ten of these."""

MAX_NONTARGETS_TO_SELECT = 300
"""Largest number of non-target trials of one shift, way of pairing and domain, to select a back-end by."""

FEW_SPEAKERS = 10
"""With fewer speakers, the LLRs depend too much on the individual voices, which causes a warning."""


def learn_verifier(
    basis: Basis,
    training: tuple[ArrayLike, ArrayLike] | None = None,
    *,
    shifted: Shifted | None = None,
    candidates: Mapping[str, Callable[[], Backend]] | None = None,
    backend_name: str | None = None,
    fitted: Backend | None = None,
    complete: Callable[[Backend], object] = lambda backend: None,
    p_target: float = P_TARGET,
    seed: int = 0,
) -> Verifier:
    """Select and fit a back-end, and calibrate it.

    The back-end is fitted on training speakers and selected by Cllr on whole recordings of held-out speakers (see
    `select_backend`). The reference is AS-norm with a cohort of 50 training speakers or more, else cosine. The
    calibration uses all pairs of two recordings of one domain, whole and cropped, and the lengths of embeddings where
    speakers left out bear out that they help (see `magnitude.py`).

    Parameters
    ----------
    basis
        Embeddings of speakers that the network was not trained on.
    training
        Embeddings [n, D] of training speakers' whole recordings and the speaker of each [n]. Without them the
        back-end is cosine.
    shifted
        Copies of recordings of the basis under made shifts, on which candidates are compared too.
    candidates
        Back-ends by name, `COSINE` and `NORMALIZED` among them; by default `CANDIDATES`.
    backend_name
        The back-end to use, one of `BACKENDS`, instead of a selection.
    fitted
        The back-end of an imported model, which is calibrated as it is, instead of a selection.
    complete
        Called with every fitted back-end, to set another cohort or to adapt it.
    p_target
        The prior of a target trial at which the calibration is fitted and decisions are made.
    seed
        Seed of the choice of recordings, if there are too many, and of the draws of the selection.

    Raises
    ------
    ManifestError
        Fewer than two speakers, or no speaker with two recordings; a back-end named that is fitted on training
        speakers, and no embeddings of any.
    ConfigError
        A back-end that does not exist; a prior outside (0, 1).
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
    if fitted is not None:
        name, backend, table = IMPORTED, fitted, {"reason": "it came with the imported model"}
        complete(backend)
    elif backend_name is None:
        among = candidates or {name: BACKENDS[name] for name in CANDIDATES}
        name, backend, table = _choose(basis.take(basis.whole), shifted, training, among, complete, seed)
    else:
        name, backend, table = backend_name, _fitted(backend_name, training), {"reason": "as asked for"}
        complete(backend)
    some = some_recordings(basis, seed)
    trials = all_trials(some)
    scores = backend.score(some.embeddings, trials)
    magnitude = magnitude_gain(basis, backend, p_target, seed)
    quality, names_of_quality = trial_quality(some, trials, magnitude=magnitude is not None and bool(magnitude["used"]))
    calibration = AffineCalibration(p_target).fit(scores, trials.target, quality, names_of_quality)
    whole = some.take(some.whole)
    domains = None if whole.domain is None else speaker_numbers(whole.domain)
    return Verifier(
        backend=backend,
        name=name,
        calibration=calibration,
        bounds=llr_bounds(speaker_numbers(whole.speakers), domains),
        backend_table=table,
        basis={
            "speakers": names.tolist(),
            "num_speakers": len(names),
            "num_recordings": int(np.count_nonzero(some.whole)),
            "num_crops": int(np.count_nonzero(~some.whole)),
            "num_target_trials": trials.num_target,
            "num_nontarget_trials": trials.num_nontarget,
            "shortest_s": float(some.duration_s.min()),
            "longest_s": float(some.duration_s.max()),
            "seed": seed,
            **({} if magnitude is None else {"magnitude": dict(magnitude)}),
        },
        figures=_figures(some, trials, scores, quality, calibration),
        p_target=p_target,
    )


def _fitted(name: str, training: tuple[ArrayLike, ArrayLike] | None) -> Backend:
    backend = make_backend(name)
    if training is not None:
        return backend.fit(*training)
    if name != COSINE:
        raise ManifestError(
            f"back-end {name} is fitted on recordings of the speakers that the network was trained on, and none are at "
            f"hand; leave the choice open, or ask for {COSINE}"
        )
    return backend


def _choose(
    whole: Basis,
    shifted: Shifted | None,
    training: tuple[ArrayLike, ArrayLike] | None,
    candidates: Mapping[str, Callable[[], Backend]],
    complete: Callable[[Backend], object],
    seed: int,
) -> tuple[str, Backend, dict[str, Any]]:
    """Return name and back-end, and the record of the selection."""
    if training is None:
        return COSINE, make_backend(COSINE), {"reason": "no recordings of training speakers to fit another on"}
    num_training = len(np.unique(np.asarray(training[1])))
    reference = NORMALIZED if num_training >= MIN_IN_COHORT else COSINE
    num_speakers = len(np.unique(whole.speakers))
    if num_speakers >= MIN_SPEAKERS:
        some = whole.take(sample_recordings(speaker_numbers(whole.speakers), each=EACH, at_most=AT_MOST, seed=seed))
        embeddings, speakers, unlike = _with_copies(some, shifted, seed)
        chosen = select_backend(
            *training,
            embeddings,
            speakers,
            candidates,
            trials=all_trials(some),
            shifted=unlike,
            reference=reference,
            complete=complete,
            seed=seed,
        )
        table = chosen.table()
        return table.pop("name"), chosen.backend, {"reason": table.pop("reason"), "selection": table}
    reason = f"{num_speakers} held-out speakers; to choose takes {MIN_SPEAKERS}"
    backend = candidates[reference]().fit(*training)
    complete(backend)
    return reference, backend, {"reason": reason}


def _with_copies(
    whole: Basis, shifted: Shifted | None, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.str_], Trials | None]:
    """Return the rows of recordings and of their copies, the speaker of each, and the trials under shifts."""
    copies = None if shifted is None else shifted.take(np.isin(shifted.basis.recording, whole.recording))
    if copies is None or not len(copies.shift):
        return whole.embeddings, whole.speakers, None
    found = shift_trials(whole, copies, np.random.default_rng(seed), MAX_NONTARGETS_TO_SELECT)
    groups = [group for group in found if group.shift != AS_RECORDED]
    if not groups:
        return whole.embeddings, whole.speakers, None
    trials = Trials(
        enroll=np.concatenate([group.enroll for group in groups]),
        test=np.concatenate([group.test for group in groups]),
        target=np.concatenate([group.target for group in groups]),
    )
    embeddings = np.concatenate([whole.embeddings, copies.basis.embeddings])
    return embeddings, np.concatenate([whole.speakers, copies.basis.speakers]), trials


def _figures(
    basis: Basis,
    trials: Trials,
    scores: NDArray[np.float32],
    quality: NDArray[np.float64],
    calibration: AffineCalibration,
) -> dict[str, Any]:
    """Measure the calibration on its own trials: all of them, and those of two whole recordings."""
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


def few_speakers_warning(num_speakers: int) -> str:
    """Return the warning about a calibration on few speakers, with the remedy."""
    return (
        f"the calibration rests on {count(num_speakers, 'speaker')}, fewer than {FEW_SPEAKERS}: other "
        "speakers' LLRs may be "
        "off; hold out more with data.held_out_prop, or calibrate on a corpus of other speakers with "
        "`xvectors calibrate --data`"
    )
