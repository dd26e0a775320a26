"""Which back-end a system should use. In: training embeddings and their speakers. Out: the one that does best on
speakers held out from its fit, fitted on all of them, with every candidate's figures.

Test speakers have no say. The embeddings should be of recordings, or better of speakers, that the network was not
trained on: on those it was, speakers are further apart than they will ever be again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xvectors.config import nearest
from xvectors.errors import ConfigError, ManifestError
from xvectors.scoring.backends.backend import Backend
from xvectors.scoring.backends.estimator import labelled_rows
from xvectors.scoring.backends.fusion import Fusion
from xvectors.scoring.backends.table import BACKENDS
from xvectors.scoring.metrics import cllr, eer, min_dcf

Criterion = Literal["cllr", "eer", "min_dcf"]
Scores = NDArray[np.float32]

RECORDINGS_A_SPEAKER = 10  # held out: more trials of the same speakers tell little more
RECORDINGS_A_FOLD = 1000  # half a million trials


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What a candidate reached on held-out speakers: means over the folds, and the standard errors of these means.

    `cllr` is in bits, after an affine calibration learnt on the other folds' held-out speakers.
    Where the data did not allow a candidate, `left_out` says why and its figures are NaN.
    """

    name: str
    eer: float = float("nan")
    eer_error: float = float("nan")
    min_dcf: float = float("nan")
    min_dcf_error: float = float("nan")
    cllr: float = float("nan")
    cllr_error: float = float("nan")
    left_out: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Selection:
    """The chosen back-end, fitted on all the speakers given, and what the choice rests on."""

    name: str
    backend: Backend
    criterion: Criterion
    p_target: float
    folds: int
    seed: int
    num_speakers: int
    figures: tuple[Figures, ...]

    def table(self) -> dict[str, Any]:
        """The choice and its figures as plain values, to be recorded in TOML or JSON."""
        rows = [{key: value for key, value in asdict(row).items() if value == value} for row in self.figures]
        return {
            "name": self.name,
            "criterion": self.criterion,
            "p_target": self.p_target,
            "folds": self.folds,
            "seed": self.seed,
            "num_speakers": self.num_speakers,
            "candidates": rows,
        }


def select_backend(
    embeddings: ArrayLike,
    speakers: ArrayLike,
    candidates: Mapping[str, Callable[[], Backend]] = BACKENDS,
    *,
    criterion: Criterion = "cllr",
    folds: int = 5,
    p_target: float = 0.01,
    seed: int = 0,
) -> Selection:
    """Choose by cross-validation over speakers: each fold's speakers are scored by what was fitted on the others'.

    Args:
        embeddings: [n, D] of training speakers.
        speakers: [n] numbers or names.
        candidates: name -> what makes the back-end; of equally good ones the first is taken.
        criterion: the figure that is to be least.
        folds: parts into which the speakers are divided, 2 or more.
        p_target: prior of minDCF, and of the calibration before Cllr.
        seed: of the division.

    Raises:
        ConfigError: a criterion that is not known, fewer than two folds, no candidates.
        ManifestError: too few speakers with two recordings for the folds, or no candidate that could be fitted.
        ShapeError: unusable embeddings, or not one speaker a row.
    """
    if criterion not in get_args(Criterion):
        raise ConfigError(f"criterion {criterion!r} is not known{nearest(str(criterion), get_args(Criterion))}")
    if not candidates:
        raise ConfigError("no candidates: name at least one back-end")
    rows, numbers = labelled_rows(embeddings, speakers)
    fold_of_speaker = _folds(np.bincount(numbers), folds, seed)
    figures, reasons = [], []
    for name, make in candidates.items():
        try:
            held_out = list(_held_out_scores(make, rows, numbers, fold_of_speaker, seed))
        except (ConfigError, ManifestError) as error:
            figures.append(Figures(name=name, left_out=str(error)))
            reasons.append(f"{name}: {error}")
        else:
            figures.append(_measure(name, held_out, p_target))
    fitted = [row for row in figures if not row.left_out]
    if not fitted:
        raise ManifestError("no candidate could be fitted to these speakers: " + "; ".join(reasons))
    best = min(fitted, key=lambda row: float(getattr(row, criterion)))
    return Selection(
        name=best.name,
        backend=candidates[best.name]().fit(rows, speakers),
        criterion=criterion,
        p_target=p_target,
        folds=folds,
        seed=seed,
        num_speakers=len(fold_of_speaker),
        figures=tuple(figures),
    )


def _folds(counts: NDArray[Any], folds: int, seed: int) -> NDArray[np.int64]:
    """The fold of each speaker, [S]; those with two recordings or more, who make target trials, are spread evenly."""
    if folds < 2:
        raise ConfigError(f"folds is {folds}: give 2 or more, to hold speakers out")
    repeated = int(np.count_nonzero(counts >= 2))
    if repeated < 2 * folds:
        raise ManifestError(
            f"{folds} folds need {2 * folds} speakers with two recordings or more, and there are {repeated}: "
            "give fewer folds, or recordings of more speakers"
        )
    shuffled = np.random.default_rng(seed).permutation(len(counts))
    shuffled = shuffled[np.argsort(counts[shuffled] < 2, kind="stable")]
    fold = np.empty(len(counts), dtype=np.int64)
    fold[shuffled] = np.arange(len(counts)) % folds
    return fold


def _held_out_scores(
    make: Callable[[], Backend],
    rows: NDArray[Any],
    numbers: NDArray[np.int32],
    fold_of_speaker: NDArray[np.int64],
    seed: int,
) -> Iterator[tuple[Scores, Scores]]:
    """(target, non-target) scores of each fold's speakers, by a back-end fitted on all others."""
    fold_of_row = fold_of_speaker[numbers]
    for fold in range(int(fold_of_speaker.max()) + 1):
        others = fold_of_row != fold
        chosen = _some_recordings(np.flatnonzero(~others), numbers, seed)
        backend = make().fit(rows[others], numbers[others])
        yield backend.all_pairs_scores(rows[chosen], numbers[chosen])


def _some_recordings(rows: NDArray[np.int64], numbers: NDArray[np.int32], seed: int) -> NDArray[np.int64]:
    """Of these rows some of each speaker, and of so many speakers that their pairs stay few enough to score."""
    rng = np.random.default_rng(seed)
    rows, rank = rng.permutation(rows), rng.permutation(int(numbers.max()) + 1)
    rows = rows[np.argsort(rank[numbers[rows]], kind="stable")]
    counts = np.bincount(rank[numbers[rows]])
    counts = counts[counts > 0]
    place = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    rows = rows[place < RECORDINGS_A_SPEAKER]
    return rows[:RECORDINGS_A_FOLD]


def _measure(name: str, held_out: list[tuple[Scores, Scores]], p_target: float) -> Figures:
    eers = [eer(*scores).eer for scores in held_out]
    costs = [min_dcf(*scores, p_target=p_target).min_dcf for scores in held_out]
    cllrs = [_calibrated_cllr(held_out, fold, p_target) for fold in range(len(held_out))]
    (e, e_error), (d, d_error), (c, c_error) = map(_mean_and_error, (eers, costs, cllrs))
    return Figures(name=name, eer=e, eer_error=e_error, min_dcf=d, min_dcf_error=d_error, cllr=c, cllr_error=c_error)


def _calibrated_cllr(held_out: list[tuple[Scores, Scores]], fold: int, p_target: float) -> float:
    """Cllr in bits of one fold's scores, calibrated on the other folds'."""
    others = [scores for number, scores in enumerate(held_out) if number != fold]
    targets, nontargets = (np.concatenate(side)[:, None] for side in zip(*others, strict=True))
    calibration = Fusion(p_target=p_target).fit(targets, nontargets)
    return cllr(*(calibration.transform(side[:, None]) for side in held_out[fold]))


def _mean_and_error(values: list[float]) -> tuple[float, float]:
    return float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values)))
