"""Adapt a PLDA model to another domain by unlabeled embeddings.

The unsupervised adaptation of the Kaldi toolkit; CORAL (Sun, Feng and Saenko, AAAI 2016; for PLDA Alam, Bhattacharya
and Kenny, Odyssey 2018); CORAL+ (Lee, Wang and Koshinaka, ICASSP 2019). The model's own total covariance, within +
between, stands for that of the old domain.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike

from xvectors.backends.estimator import Array, finite_rows
from xvectors.backends.plda import PLDA
from xvectors.backends.statistics import total_statistics, whitener
from xvectors.errors import ConfigError, ManifestError
from xvectors.text import nearest

ADAPT_BY = "coral_plus"
"""The default method, which never makes the model more certain than it was."""
NO_SPREAD = 1e-8  # share of `within` that regularizes directions without spread between speakers


def adapt_kaldi(
    plda: PLDA,
    embeddings: ArrayLike,
    within_scale: float = 0.75,
    between_scale: float = 0.25,
    mean_scale: float = 1.0,
) -> PLDA:
    """Add excess variance of the new domain to the two covariances, by their scales.

    Parameters
    ----------
    within_scale, between_scale
        Shares of the excess, 0 or more; with a sum of 1, all of it is explained. The defaults are those of Kaldi's
        SRE 2016 recipe.
    mean_scale
        Weight of the squared difference of the means as variance, 0 or more.

    Raises
    ------
    ConfigError
        A scale below 0.
    ManifestError
        No more embeddings than dimensions.
    ShapeError
        Embeddings of other dimensions than the model's, or not finite.
    """
    _check_scales(within_scale=within_scale, between_scale=between_scale, mean_scale=mean_scale)
    mean, total = _new_domain(plda, embeddings)
    difference = mean - plda.mean_
    total = total + mean_scale * np.outer(difference, difference)
    excess = _excess(*_common_basis(plda.within_ + plda.between_, total))
    return PLDA.from_covariances(mean, plda.within_ + within_scale * excess, plda.between_ + between_scale * excess)


def adapt_coral(plda: PLDA, embeddings: ArrayLike) -> PLDA:
    """Transform both covariances as if embeddings were whitened and recolored with the covariance of the new domain.

    Raises ManifestError and ShapeError as `adapt_kaldi` does.
    """
    mean, total = _new_domain(plda, embeddings)
    recolor = _recoloring(plda.within_ + plda.between_, total)
    return PLDA.from_covariances(mean, recolor @ plda.within_ @ recolor.T, recolor @ plda.between_ @ recolor.T)


def adapt_coral_plus(plda: PLDA, embeddings: ArrayLike, within_scale: float = 0.5, between_scale: float = 0.5) -> PLDA:
    """Increase each covariance towards its CORAL version where that is larger; never decrease it.

    Parameters
    ----------
    within_scale, between_scale
        From 0, the model as it was, to 1, the larger of both in every direction.

    Raises
    ------
    ConfigError
        A scale outside 0 to 1.
    ManifestError, ShapeError
        As `adapt_kaldi` does.
    """
    _check_scales(most=1.0, within_scale=within_scale, between_scale=between_scale)
    moved = adapt_coral(plda, embeddings)
    within, between = plda.within_, plda.between_
    reference = between + NO_SPREAD * within  # between alone may be of lower rank, without a basis
    within = within + within_scale * _excess(*_common_basis(within, moved.within_))
    between = between + between_scale * _excess(*_common_basis(reference, moved.between_))
    return PLDA.from_covariances(moved.mean_, within, between)


ADAPTATIONS: Mapping[str, Callable[[PLDA, ArrayLike], PLDA]] = MappingProxyType(
    {"kaldi": adapt_kaldi, "coral": adapt_coral, "coral_plus": adapt_coral_plus}
)


def check_adaptation(name: str) -> None:
    """Raise ConfigError for an unknown method."""
    if name not in ADAPTATIONS:
        raise ConfigError(f"adaptation {name!r} is not known{nearest(name, ADAPTATIONS)}")


def _new_domain(plda: PLDA, embeddings: ArrayLike) -> tuple[Array, Array]:
    """Return the mean [D] and the covariance [D, D] of the new domain's embeddings."""
    dim = len(plda.arrays()["mean_"])
    rows = finite_rows(embeddings, dim, "PLDA")
    if len(rows) <= dim:
        raise ManifestError(
            f"adaptation in {dim} dimensions needs more than {dim} embeddings of the new domain, and there are "
            f"{len(rows)}: give more"
        )
    mean, total = total_statistics(rows)
    return mean, total.matrix


def _common_basis(reference: Array, other: Array) -> tuple[Array, Array]:
    """Return a basis F [D, D] and values v [D] with reference = F F' and other = F diag(v) F'."""
    white = whitener(reference)
    values, directions = np.linalg.eigh(white.T @ other @ white)
    return np.linalg.inv(white).T @ directions, values


def _excess(basis: Array, values: Array) -> Array:
    """Return the excess of the other covariance over the reference, in the directions in which it is larger."""
    excess: Array = (basis * np.maximum(values - 1.0, 0.0)) @ basis.T
    return excess


def _recoloring(old: Array, new: Array) -> Array:
    """Return the matrix [D, D] that gives columns of covariance `old` the covariance `new`: new^1/2 old^-1/2."""
    recoloring: Array = _power(new, 0.5) @ _power(old, -0.5)
    return recoloring


def _power(covariance: Array, exponent: float) -> Array:
    values, directions = np.linalg.eigh(covariance)
    power: Array = (directions * np.maximum(values, np.finfo(float).tiny) ** exponent) @ directions.T
    return power


def _check_scales(most: float = np.inf, **scales: float) -> None:
    for name, scale in scales.items():
        if not 0.0 <= scale <= most:
            raise ConfigError(f"{name} is {scale}: give " + (f"0 to {most:g}" if np.isfinite(most) else "0 or more"))
