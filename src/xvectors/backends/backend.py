"""Back-ends: transforms, then a scorer, then optional score normalization."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xvectors.backends.adaptation import ADAPT_BY, ADAPTATIONS, check_adaptation
from xvectors.backends.as_norm import ScoreNorm
from xvectors.backends.cosine import Cosine, Embeddings, length_normalize
from xvectors.backends.dot_products import Rows, all_pairs_products, pair_products, row_products
from xvectors.backends.estimator import Estimator, finite_rows, labeled_rows
from xvectors.backends.plda import PLDA
from xvectors.backends.statistics import speaker_means
from xvectors.backends.transforms import LDA, WCCN, Center, LengthNorm, Transform, Whiten
from xvectors.errors import ConfigError
from xvectors.text import nearest, short_repr
from xvectors.trials.pairs import Trials


@short_repr()
@dataclass(frozen=True, kw_only=True, eq=False)
class EnrolledModels:
    """Models of k speakers in the space of one back-end."""

    names: NDArray[Any]  # [k] sorted
    means: Embeddings  # [k, D'] of each model's transformed recordings
    counts: NDArray[np.int64]  # [k] recordings each counts for


class Backend:
    """Transforms and a scorer, fitted on training speakers, that turn embeddings into scores.

    Parameters
    ----------
    steps
        Transforms in the order they apply.
    scorer
        Cosine or PLDA.
    normalizer
        S-norm or AS-norm of the scores, with the means of the training speakers as the cohort unless `use_cohort` sets
        another.

    Examples
    --------
    >>> backend = Backend([LDA(dim=100), LengthNorm()], PLDA()).fit(embeddings, speakers)
    >>> scores = backend.score(other_embeddings, trials)
    """

    def __init__(
        self, steps: Sequence[Transform] = (), scorer: Cosine | PLDA | None = None, normalizer: ScoreNorm | None = None
    ) -> None:
        self.steps = tuple(steps)
        self.scorer = Cosine() if scorer is None else scorer
        self.normalizer = normalizer

    def __repr__(self) -> str:
        return " > ".join(map(repr, self.parts().values()))

    def parts(self) -> dict[str, Estimator]:
        """Return all parts by their name in a file, in the order of application."""
        named: dict[str, Estimator] = {f"step{number}": step for number, step in enumerate(self.steps)}
        named["scorer"] = self.scorer
        if self.normalizer is not None:
            named["normalizer"] = self.normalizer
        return named

    def fit(self, embeddings: ArrayLike, speakers: ArrayLike) -> Self:
        """Fit all parts on embeddings [n, D] and their speakers [n], numbers or names.

        Raises
        ------
        ConfigError
            A setting that the data do not allow.
        ManifestError
            Too few speakers or recordings for a part.
        ShapeError
            Unusable embeddings, or not one speaker a row.
        """
        rows, _ = labeled_rows(embeddings, speakers)
        raw = rows
        for step in self.steps:
            rows = step.fit(rows, speakers).transform(rows)
        self.scorer.fit(rows, speakers)
        if self.normalizer is not None:
            self.use_cohort(raw, speakers)
        return self

    def use_cohort(self, embeddings: ArrayLike, speakers: ArrayLike) -> Self:
        """Normalize scores by a cohort: the mean of embeddings [n, D] of each impostor [n].

        Raises ConfigError for a back-end without score normalization, otherwise as `ScoreNorm.fit` does.
        """
        if self.normalizer is None:
            raise ConfigError("this back-end normalizes no scores: give it a ScoreNorm to use a cohort")
        models = self.enroll(embeddings, speakers, average=True)
        self.normalizer.fit(models.means, models.names)
        return self

    def extend_cohort(self, embeddings: ArrayLike, names: ArrayLike) -> Self:
        """Add impostors to the cohort of a fitted back-end: the mean of embeddings [n, D] of each impostor [n].

        They may be the very people to compare, so the impostor most like a recording no longer counts. Raises
        ConfigError for a back-end without score normalization, otherwise as `ScoreNorm.fit` does.
        """
        if self.normalizer is None:
            raise ConfigError("this back-end normalizes no scores: give it a ScoreNorm to use a cohort")
        old, added = self.normalizer.arrays(), self.enroll(embeddings, names, average=True)
        self.normalizer.leave_out = 1
        self.normalizer.fit(
            np.concatenate([old["cohort_"], added.means]),
            np.concatenate([old["cohort_speakers_"], added.names.astype(np.str_)]),
        )
        return self

    @property
    def center(self) -> NDArray[np.float64] | None:
        """The mean [D] that a fitted back-end subtracts from embeddings first; None if it begins otherwise."""
        first = self.steps[0] if self.steps else None
        return first.mean_ if isinstance(first, Center) else None

    def recenter(self, mean: ArrayLike) -> Self:
        """Subtract another mean [D] first. Raises ConfigError for a back-end that subtracts none first."""
        first = self.steps[0] if self.steps else None
        if not isinstance(first, Center):
            raise ConfigError("this back-end does not begin by subtracting a mean; adapt its calibration instead")
        first.mean_ = finite_rows(np.atleast_2d(mean), len(first.mean_), "back-end")[0].astype(np.float64)
        return self

    def adapt(self, embeddings: ArrayLike, by: str = ADAPT_BY) -> Self:
        """Adapt the PLDA to another domain with unlabeled embeddings [n, D].

        Scores change, and with them the LLRs that a calibration makes of them: calibrate again.

        Parameters
        ----------
        by
            "coral_plus", "coral" or "kaldi" (see adaptation.py), each with its own default scales.

        Raises
        ------
        ConfigError
            For a scorer other than PLDA, or an unknown method.
        """
        if not isinstance(self.scorer, PLDA):
            raise ConfigError(
                "this back-end scores without PLDA, and only that adapts: take lda_plda or another with it"
            )
        check_adaptation(by)
        self.scorer = ADAPTATIONS[by](self.scorer, self.transform(embeddings))
        return self

    def warn_of_overlap(self, speakers: Iterable[Any], what: str = "test") -> list[str]:
        """Return the speakers (`what` says which) who are in the cohort, after a warning."""
        return [] if self.normalizer is None else self.normalizer.warn_of_overlap(speakers, what)

    def transform(self, embeddings: ArrayLike) -> Embeddings:
        """Return embeddings [n, D] as the scorer sees them, float32 [n, D']. Raises ShapeError if they do not fit."""
        rows = embeddings
        for step in self.steps:
            rows = step.transform(rows)
        return np.asarray(rows, dtype=np.float32)

    def enroll(self, embeddings: ArrayLike, models: ArrayLike, average: bool = False) -> EnrolledModels:
        """Make models of several recordings each.

        Parameters
        ----------
        embeddings
            [n, D].
        models
            [n] which model each belongs to, numbers or names.
        average
            The mean counts as one recording, at length 1 if the embeddings are. Otherwise PLDA scores "by the book",
            with the posterior given all recordings. Cosine scores the mean either way.

        Raises
        ------
        ShapeError, ManifestError
            Unusable embeddings, not one model a row, or none.
        """
        labeled_rows(embeddings, models)
        means, counts = speaker_means(self.transform(embeddings), models)
        vectors = means.astype(np.float32)
        if average:
            counts = np.ones_like(counts)
            if self.steps and isinstance(self.steps[-1], LengthNorm):
                vectors = length_normalize(vectors)
        return EnrolledModels(names=np.unique(np.asarray(models)), means=vectors, counts=counts)

    def score(self, embeddings: ArrayLike, trials: Trials) -> NDArray[np.float32]:
        """Return the scores [m] of trials between rows of embeddings [n, D]. Raises ShapeError if they do not fit."""
        left, right = self.project(embeddings, embeddings)
        return pair_products(left, right, trials.enroll, trials.test)

    def score_pairs(
        self, enroll: EnrolledModels | ArrayLike, test: ArrayLike, enroll_index: ArrayLike, test_index: ArrayLike
    ) -> NDArray[np.float32]:
        """Return the scores [m] of listed pairs of enrollment (models, or embeddings [k, D]) and test rows [t, D]."""
        return pair_products(*self.project(enroll, test), enroll_index, test_index)

    def score_matrix(self, enroll: EnrolledModels | ArrayLike, test: ArrayLike) -> NDArray[np.float32]:
        """Return the scores [k, t] of all enrollment rows (models, or embeddings [k, D]) with all test rows [t, D]."""
        left, right = self.project(enroll, test)
        scores = np.empty((len(left), len(right)), dtype=np.float32)
        for start, block in row_products(left, right):
            scores[start : start + len(block)] = block
        return scores

    def all_pairs_scores(
        self, embeddings: ArrayLike, speaker_index: ArrayLike
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return target and non-target scores of all pairs i < j of embeddings [n, D], like `cosine.all_pairs_scores`.

        Raises
        ------
        ManifestError
            Fewer than two rows, no target pair or no non-target pair.
        ShapeError
            Unusable embeddings, or not one speaker a row.
        """
        return all_pairs_products(*self.project(embeddings, embeddings), speaker_index)

    def project(self, enroll: EnrolledModels | ArrayLike, test: ArrayLike) -> tuple[Rows, Rows]:
        """Rows [k, d] and [t, d], float32, whose dot products are the scores of models, or embeddings [k, D], with test
        [t, D]. Where every model counts for one recording, as with `average`, either side's do not depend on the other.
        """
        test_rows = self.transform(test)
        if isinstance(enroll, EnrolledModels):
            models, counts = enroll.means, enroll.counts
        else:
            models, counts = test_rows if enroll is test else self.transform(enroll), None
        if self.normalizer is None:
            return self.scorer.project(models, test_rows, counts)
        return self.normalizer.project(self.scorer, models, test_rows, counts)


COHORT_SHARE = 0.2  # of the cohort, for AS-norm

BACKENDS: Mapping[str, Callable[[], Backend]] = MappingProxyType(
    {
        "cosine": lambda: Backend([], Cosine()),
        "cosine_centered": lambda: Backend([Center()], Cosine()),
        "cosine_whitened": lambda: Backend([Whiten()], Cosine()),
        "wccn": lambda: Backend([WCCN()], Cosine()),
        "lda": lambda: Backend([LDA()], Cosine()),
        "plda": lambda: Backend([Whiten(), LengthNorm()], PLDA()),
        "lda_plda": lambda: Backend([LDA(), LengthNorm()], PLDA()),
        "snorm": lambda: Backend([Center()], Cosine(), ScoreNorm()),
        "asnorm": lambda: Backend([Center()], Cosine(), ScoreNorm(COHORT_SHARE)),
        "wccn_asnorm": lambda: Backend([WCCN()], Cosine(), ScoreNorm(COHORT_SHARE)),
        "lda_plda_asnorm": lambda: Backend([LDA(), LengthNorm()], PLDA(), ScoreNorm(COHORT_SHARE)),
    }
)


def make_backend(name: str) -> Backend:
    """Make the back-end called `name`, not fitted. Raises ConfigError for an unknown name."""
    if name not in BACKENDS:
        raise ConfigError(f"back-end {name!r} is not known{nearest(name, BACKENDS)}")
    return BACKENDS[name]()
