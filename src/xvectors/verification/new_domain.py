"""Adapt a calibration to a new domain, such as other rooms or another language, by unlabeled recordings of it.

The embeddings of the calibration set are moved so that their mean is that of the new domain, before a back-end is
fitted and calibrated: the part of CORAL that concerns means (Sun, Feng and Saenko, AAAI 2016), as centering by the mean
of the new domain is usual for PLDA. The people in the recordings also join the cohort of AS-norm (Matějka et al.,
Interspeech 2017). So every back-end is adapted, and its LLRs are learned from scores as the new domain has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.cluster.hierarchy import fcluster, linkage

from xvectors.backends import PLDA, Backend, length_normalize
from xvectors.backends.adaptation import ADAPT_BY
from xvectors.backends.estimator import Array
from xvectors.backends.statistics import speaker_means
from xvectors.errors import ManifestError
from xvectors.text import count, short_repr
from xvectors.trials import Trials
from xvectors.trials.pairs import speaker_numbers
from xvectors.verification.calibration_set import Basis
from xvectors.verification.verifier import MIN_HEARD_S, Verifier

MIN_RECORDINGS = 10
"""Least number of unlabeled recordings; fewer say more about their speakers than about the domain."""
FEW_PEOPLE = 10
"""With fewer people, their voices weigh on the mean of the domain, which is said."""
MAX_IN_COHORT = 1000
"""Largest number of unlabeled recordings that join a cohort."""
MAX_GROUPED = 2000
"""Largest number of unlabeled recordings that are compared to find out how many people they are of."""
MAX_COMPARED = 300
"""Largest number of unlabeled recordings whose pairs are scored for the report."""
FAR = 1.5
"""Distance of the means, in spreads, from which on embeddings may be of another system."""


@short_repr()
@dataclass(frozen=True, kw_only=True, eq=False)
class NewDomain:
    """Unlabeled recordings of a new domain.

    Attributes
    ----------
    embeddings : [n, D]
    duration_s : [n] seconds of speech; None: unknown
    """

    embeddings: NDArray[np.float32]
    duration_s: NDArray[np.float64] | None = None


@short_repr()
@dataclass(frozen=True, kw_only=True, eq=False)
class Adaptation:
    """What unlabeled recordings say about a new domain, for one calibration set.

    Attributes
    ----------
    new : the recordings
    mean : [D] of the new domain, in which each group of recordings that seem to be of one person counts once
    error : squared error to expect of `mean`, from the differences between these groups
    groups : [n] number of the group of each recording, from 1
    distance : between the means of calibration set and new domain, in spreads of the calibration set: the root mean
        square distance of its recordings from their mean
    by_chance : distance to expect of as many groups of the calibration set's own domain
    weight : how far means move, from 0 to 1
    by : method of `Backend.adapt` for PLDA
    keep_cohort : whether a cohort stays as it is
    """

    new: NewDomain
    mean: Array
    error: float
    groups: NDArray[np.int64]
    distance: float
    by_chance: float
    weight: float
    by: str = ADAPT_BY
    keep_cohort: bool = False

    @classmethod
    def to(cls, new: NewDomain, basis: Basis, *, by: str = ADAPT_BY, keep_cohort: bool = False) -> Adaptation:
        """Measure how far a new domain is from a calibration set.

        A weight w on the difference d of the means has the least expected error for w = s / (s + e), with the squared
        distance s of the true means and the squared error e of d. |d|^2 - e estimates s, so that w = 1 - e / |d|^2, or
        0 (the positive-part rule of James and Stein, 1961).

        Raises
        ------
        ManifestError
            Fewer than `MIN_RECORDINGS` recordings, or recordings that seem to be of one person.
        """
        if len(new.embeddings) < MIN_RECORDINGS:
            raise ManifestError(
                f"{count(len(new.embeddings), 'usable unlabeled recording')} to adapt to; give {MIN_RECORDINGS} or "
                "more, better 50, of many people"
            )
        whole = basis.take(basis.whole)
        groups = _people(new.embeddings, whole)
        means, _ = speaker_means(new.embeddings, groups)
        if len(means) < 2:
            raise ManifestError(
                f"all {len(new.embeddings)} unlabeled recordings seem to be of one person: their mean would "
                "be this voice and not the domain; give recordings of many people"
            )
        old, _ = speaker_means(whole.embeddings, whole.speakers)
        error = _error_of_mean(means)
        difference = means.mean(axis=0) - old.mean(axis=0)
        squared = float(difference @ difference)
        spread = float(np.sqrt(np.var(whole.embeddings, axis=0, dtype=np.float64).sum()))
        chance = error + _error_of_mean(old)
        return cls(
            new=new,
            mean=means.mean(axis=0),
            error=error,
            groups=groups,
            distance=float(np.sqrt(squared)) / spread,
            by_chance=float(np.sqrt(chance)) / spread,
            weight=max(0.0, 1.0 - chance / squared) if squared > 0 else 0.0,
            by=by,
            keep_cohort=keep_cohort,
        )

    @property
    def num_groups(self) -> int:
        return len(np.unique(self.groups))

    def moved(self, basis: Basis, like: Basis | None = None) -> Basis:
        """Return the calibration set with each of its domains moved toward the new one by `weight`.

        `like` is the set whose means are known: that of the recordings as they are for copies of them, and by default
        the whole recordings of `basis` itself.
        """
        of = basis.take(basis.whole) if like is None else like.take(like.whole)
        rows = basis.embeddings.astype(np.float64)
        if basis.domain is None or of.domain is None:
            rows += self.weight * (self.mean - _mean_of_speakers(of.embeddings, of.speakers))
        else:
            for name in np.unique(basis.domain):
                here = of.domain == name
                mean = _mean_of_speakers(of.embeddings[here], of.speakers[here])
                rows[basis.domain == name] += self.weight * (self.mean - mean)
        return replace(basis, embeddings=rows.astype(np.float32))

    def moved_training(
        self, training: tuple[NDArray[np.float32], NDArray[np.str_]]
    ) -> tuple[NDArray[np.float32], NDArray[np.str_]]:
        """Return embeddings [n, D] of training speakers, moved likewise, and their speakers [n]."""
        rows = training[0].astype(np.float64)
        moved = rows + self.weight * (self.mean - _mean_of_speakers(rows, training[1]))
        return moved.astype(np.float32), training[1]

    def recenter(self, backend: Backend) -> None:
        """Move the mean that a fitted back-end subtracts first, if it does: for one that came with a model."""
        old = backend.center
        if old is None:
            return
        squared = float(np.square(self.mean - old).sum())
        weight = max(0.0, 1.0 - self.error / squared) if squared > 0 else 0.0
        backend.recenter(old + weight * (self.mean - old))

    def complete(self, backend: Backend) -> None:
        """Adapt a PLDA, if there are enough recordings, and let the people in the recordings join the cohort.

        The other parts of a back-end are adapted by fitting them on moved recordings.
        """
        if self.adapts_plda(backend):
            backend.adapt(self.new.embeddings, self.by)
        if self.extends_cohort(backend):
            some = self._in_cohort()
            backend.extend_cohort(self.new.embeddings[some], [f"unlabeled {self.groups[row]}" for row in some])

    def _in_cohort(self) -> NDArray[np.int64]:
        return _some(len(self.new.embeddings), MAX_IN_COHORT)

    def extends_cohort(self, backend: Backend) -> bool:
        """Whether the back-end has a cohort that people join."""
        return backend.normalizer is not None and not self.keep_cohort

    def adapts_plda(self, backend: Backend) -> bool:
        """Whether the back-end has a PLDA of fewer dimensions than there are recordings."""
        return isinstance(backend.scorer, PLDA) and len(self.new.embeddings) > len(backend.scorer.mean_)

    def record(self, before: Verifier, after: Verifier, seconds: float) -> dict[str, Any]:
        """Return what has changed, for calibration.toml and `lines`.

        `before` was learned without adaptation and `after` with it. Recordings of unknown duration count as `seconds`
        long. Of the pairs of unlabeled recordings, most are of different people, so that a median tells about these.
        """
        facts: dict[str, Any] = {
            "num_embeddings": len(self.new.embeddings),
            "num_groups": self.num_groups,
            "mean_distance": self.distance,
            "mean_distance_by_chance": self.by_chance,
            "mean_weight": self.weight,
        }
        if self.adapts_plda(after.backend):
            facts["by"] = self.by
        if self.extends_cohort(after.backend):
            facts["num_in_cohort"] = len(np.unique(self.groups[self._in_cohort()]))
        some = _some(len(self.new.embeddings), MAX_COMPARED)
        enroll, test = (side.astype(np.int32) for side in np.triu_indices(len(some), 1))
        pairs = Trials(enroll=enroll, test=test, target=np.zeros(len(enroll), dtype=np.bool_))
        known = self.new.duration_s
        length = np.full(len(some), seconds) if known is None else np.maximum(known[some], MIN_HEARD_S)
        for name, verifier in (("before", before), ("after", after)):
            scores = verifier.score(self.new.embeddings[some], pairs)
            facts[f"back_end_{name}"] = verifier.name
            facts[f"median_score_{name}"] = float(np.median(scores))
            if labeled := verifier.figures.get("all"):
                facts[f"eer_{name}"], facts[f"cllr_{name}"] = labeled["eer"], labeled["cllr"]
            if verifier.is_calibrated:
                llrs = verifier.trial_llrs(scores, pairs, self.new.embeddings[some], length)
                facts[f"median_llr_{name}"] = float(np.median(llrs))
                facts[f"called_one_speaker_{name}"] = float(np.mean(llrs >= verifier.threshold))
        return facts


def lines(facts: Mapping[str, Any]) -> list[str]:
    """Say in sentences what `Adaptation.record` found."""
    used, listed = int(facts["num_embeddings"]), int(facts.get("num_listed", facts["num_embeddings"]))
    of = "" if used == listed else f" of {listed}"
    said = [
        f"{used}{of} unlabeled recordings ({facts['file']}), which sound like about "
        f"{count(int(facts['num_groups']), 'person').replace('persons', 'people')}",
        f"their mean is {facts['mean_distance']:.2f} spreads of the calibration recordings away, by chance "
        f"{facts['mean_distance_by_chance']:.2f}; means were moved by {facts['mean_weight']:.0%}",
    ]
    if facts["num_groups"] < FEW_PEOPLE:
        said.append(
            f"so few people may do harm, as their voices weigh on the mean: give {FEW_PEOPLE} or more, better 20"
        )
    if facts["mean_distance"] > FAR:
        said.append("this is farther than any corpus measured: make sure that they are embeddings by this system")
    if "num_in_cohort" in facts:
        said.append(f"{facts['num_in_cohort']} of these people joined the cohort")
    if "by" in facts:
        said.append(f"PLDA was adapted by {facts['by']}")
    if facts["back_end_before"] != facts["back_end_after"]:
        said.append(f"without them, the back-end would be {facts['back_end_before']}")
    said.append(
        f"median score of two of them, most of different people: {facts['median_score_before']:.3f} before, "
        f"{facts['median_score_after']:.3f} after"
    )
    if "median_llr_before" in facts and "median_llr_after" in facts:
        said.append(
            f"median LLR of two of them: {facts['median_llr_before']:.1f} before, {facts['median_llr_after']:.1f} after"
        )
        said.append(
            f"{facts['called_one_speaker_before']:.1%} of these pairs were called one speaker before, "
            f"{facts['called_one_speaker_after']:.1%} after"
        )
    if "cllr_before" in facts and "cllr_after" in facts:
        said.append(
            f"labeled recordings of the calibration set: EER {facts['eer_before']:.2%} and Cllr "
            f"{facts['cllr_before']:.3f} bits before, {facts['eer_after']:.2%} and {facts['cllr_after']:.3f} bits after"
        )
    said.append(
        "to check this, measure labeled recordings of the new domain, of 10 people or more, with `xvectors evaluate`"
    )
    return said


def _people(embeddings: NDArray[np.float32], whole: Basis) -> NDArray[np.int64]:
    """Group recordings [n] that seem to be of one person: average linkage of centered cosines.

    The threshold is halfway between the mean cosines of the same and of different speakers in the calibration set.
    Recordings beyond `MAX_GROUPED` are a group each.
    """
    groups = np.arange(len(embeddings), dtype=np.int64)
    some = _some(len(embeddings), MAX_GROUPED)
    unit = _centered(embeddings[some])
    tree = linkage(np.maximum(1.0 - (unit @ unit.T)[np.triu_indices(len(some), 1)], 0.0), method="average")
    groups[some] = len(embeddings) + fcluster(tree, 1.0 - _between_kinds(whole), criterion="distance")
    return np.unique(groups, return_inverse=True)[1] + 1


def _between_kinds(whole: Basis) -> float:
    """Return the cosine halfway between the means of same and different speakers, centered within each domain."""
    rows = np.empty(whole.embeddings.shape)
    domains = np.zeros(len(rows), dtype=np.int64) if whole.domain is None else speaker_numbers(whole.domain)
    for number in np.unique(domains):
        rows[domains == number] = _centered(whole.embeddings[domains == number])
    speakers = speaker_numbers(whole.speakers)
    left, right = np.triu_indices(len(rows), 1)
    here = domains[left] == domains[right]
    cosines, same = (rows @ rows.T)[left, right][here], (speakers[left] == speakers[right])[here]
    return float(cosines[same].mean() + cosines[~same].mean()) / 2


def _centered(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    unit = length_normalize(embeddings)
    centered = unit - unit.mean(axis=0)
    return np.asarray(centered / np.maximum(np.linalg.norm(centered, axis=1, keepdims=True), 1e-9), dtype=np.float32)


def _mean_of_speakers(embeddings: ArrayLike, speakers: ArrayLike) -> Array:
    mean: Array = speaker_means(embeddings, speakers)[0].mean(axis=0)
    return mean


def _error_of_mean(means: Array) -> float:
    """Return the squared error to expect of the mean of rows [n, D], n of 2 or more."""
    return float(means.var(axis=0, ddof=1).sum()) / len(means)


def _some(number: int, most: int) -> NDArray[np.int64]:
    """Return up to `most` of the first `number` numbers, evenly spread."""
    return np.unique(np.linspace(0, number - 1, min(number, most)).round().astype(np.int64))
