"""Learn a verifier: select a back-end, and calibrate it, with less confidence in short recordings.

The back-end is fitted on training speakers, and selected and calibrated on held-out speakers. So the calibration only
uses scores of speakers that neither network nor back-end was fitted on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xvectors.backends import BACKENDS, AffineCalibration, Backend, make_backend, select_backend
from xvectors.backends.estimator import real_rows
from xvectors.errors import ManifestError, ShapeError
from xvectors.metrics import ROC
from xvectors.metrics.bootstrap import MIN_SPEAKERS
from xvectors.text import count, short_repr
from xvectors.trials import Trials, sample_recordings
from xvectors.trials.pairs import speaker_numbers
from xvectors.verification.verifier import IMPORTED, P_TARGET, QUALITY_NAMES, Verifier, duration_quality

CROP_DURATIONS_S = (0.5, 1.0, 2.0)
COSINE, NORMALIZED = "cosine", "asnorm"
CANDIDATES = (COSINE, NORMALIZED, "wccn_asnorm", "lda_plda", "lda_plda_asnorm")
"""Back-ends that are fast to fit and to score."""
MIN_IN_COHORT = 50
"""Least number of training speakers in a cohort; AS-norm uses the nearest fifth, ten of these."""
MAX_ROWS = 3000
"""Largest number of recordings and crops to compare in pairs: 4.5 million trials."""

FEW_SPEAKERS = 10
"""With fewer speakers, the LLRs depend too much on the individual voices, which causes a warning."""


@short_repr()
@dataclass(frozen=True, kw_only=True, eq=False)
class Basis:
    """The calibration set: n embeddings of whole recordings and crops.

    Attributes
    ----------
    embeddings : [n, D]
    speakers : [n] names
    recording : [n] number of the recording; its crops share it
    duration_s : [n] embedded seconds
    whole : bool [n] whether the row is the whole recording
    domain : [n] names; trials are between rows of one domain. None: all rows are of one.
    """

    embeddings: NDArray[np.float32]
    speakers: NDArray[np.str_]
    recording: NDArray[np.int64]
    duration_s: NDArray[np.float64]
    whole: NDArray[np.bool_]
    domain: NDArray[np.str_] | None = None

    def __post_init__(self) -> None:
        rows = len(real_rows(self.embeddings))
        for name in ("speakers", "recording", "duration_s", "whole", "domain"):
            value = getattr(self, name)
            if value is not None and (shape := value.shape) != (rows,):
                raise ShapeError(f"{name} has the shape {list(shape)}, but there are {rows} embeddings")

    def take(self, rows: ArrayLike) -> Basis:
        at = np.asarray(rows)
        return Basis(
            embeddings=self.embeddings[at],
            speakers=self.speakers[at],
            recording=self.recording[at],
            duration_s=self.duration_s[at],
            whole=self.whole[at],
            domain=None if self.domain is None else self.domain[at],
        )


def learn_verifier(
    basis: Basis,
    training: tuple[ArrayLike, ArrayLike] | None = None,
    *,
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
    calibration uses all pairs of two recordings of one domain, whole and cropped.

    Parameters
    ----------
    basis
        Embeddings of speakers that the network was not trained on.
    training
        Embeddings [n, D] of training speakers' whole recordings and the speaker of each [n]. Without them the
        back-end is cosine.
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
        name, backend, table = _choose(basis.take(basis.whole), training, among, complete, seed)
    else:
        name, backend, table = backend_name, _fitted(backend_name, training), {"reason": "as asked for"}
        complete(backend)
    some = some_recordings(basis, seed)
    trials = all_trials(some)
    scores = backend.score(some.embeddings, trials)
    quality = duration_quality(some.duration_s[trials.enroll], some.duration_s[trials.test])
    calibration = AffineCalibration(p_target).fit(scores, trials.target, quality, QUALITY_NAMES)
    return Verifier(
        backend=backend,
        name=name,
        calibration=calibration,
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
        chosen = select_backend(
            *training,
            whole.embeddings,
            whole.speakers,
            candidates,
            domains=whole.domain,
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


def some_recordings(basis: Basis, seed: int, at_most: int | None = None) -> Basis:
    """Draw about `at_most` rows, by default MAX_ROWS: equally many recordings of each speaker, with their crops."""
    most = MAX_ROWS if at_most is None else at_most
    if len(basis.speakers) <= most:
        return basis
    recordings, first = np.unique(basis.recording, return_index=True)
    speakers = speaker_numbers(basis.speakers[first])
    room = most * len(recordings) // len(basis.speakers)
    each = max(2, room // (int(speakers.max()) + 1))
    kept = sample_recordings(speakers, each=each, at_most=len(recordings), seed=seed)
    return basis.take(np.isin(basis.recording, recordings[kept]))


def all_trials(basis: Basis) -> Trials:
    """Return all pairs of rows of two recordings of one domain."""
    speakers = speaker_numbers(basis.speakers)
    domains = np.zeros(len(speakers), dtype=np.int64) if basis.domain is None else speaker_numbers(basis.domain)
    enroll, test = [], []
    for row in range(len(speakers) - 1):
        others = np.arange(row + 1, len(speakers), dtype=np.int32)
        paired = (basis.recording[others] != basis.recording[row]) & (domains[others] == domains[row])
        test.append(others[paired])
        enroll.append(np.full(len(test[-1]), row, dtype=np.int32))
    left, right = np.concatenate(enroll), np.concatenate(test)
    return Trials(enroll=left, test=right, target=speakers[left] == speakers[right])


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
