"""VBx: Bayesian clustering of a sequence of embeddings under a PLDA model.

Landini et al., "Bayesian HMM clustering of x-vector sequences (VBx)", Computer Speech & Language 71, 2022.

Each speaker is a latent vector of the PLDA, the order of speakers a Markov chain that stays with the same speaker with
the loop probability. Speakers whom the evidence does not need lose their prior, so that the number of speakers follows
from the recording. With a loop probability of 0 it is a mixture in which order plays no role, as in pyannote's
community-1 pipeline.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xvectors.errors import ConfigError, ShapeError
from xvectors.text import short_repr

Array = NDArray[np.float64]


@short_repr()
@dataclass(frozen=True, kw_only=True, eq=False)
class VBxResult:
    """What `vbx` found.

    Attributes
    ----------
    posterior : [n, k], the probability of each speaker at each embedding
    priors : [k] the speakers' shares; about 0 for those that are not needed
    evidence : the lower bound of the log evidence after each iteration
    """

    posterior: Array
    priors: Array
    evidence: tuple[float, ...]


def vbx(
    features: ArrayLike,
    between: ArrayLike,
    initial: ArrayLike,
    *,
    loop_probability: float = 0.99,
    fa: float = 0.3,
    fb: float = 17.0,
    iterations: int = 40,
    tolerance: float = 1e-6,
) -> VBxResult:
    """Cluster embeddings in the order of time.

    Parameters
    ----------
    features
        [n, d], in the basis of a PLDA in which the covariance within speakers is I (`PLDA.diagonal`).
    between
        [d], the variances between speakers in that basis.
    initial
        [n, k], the probability of each of k speakers at each embedding to start from (`soft_assignment`); each speaker
        begins with a share of 1/k.
    loop_probability
        Probability of staying with a speaker, besides that of drawing the same again; 0 for a mixture.
    fa, fb
        Weights of the likelihoods, below 1 as neighboring embeddings are not independent, and of the speakers' priors:
        the greater, the fewer speakers.
    iterations, tolerance
        It ends when the evidence grows by less than `tolerance`, or after this many iterations.

    Raises
    ------
    ShapeError
        Shapes that do not fit each other, values that are not finite.
    ConfigError
        A loop probability outside [0, 1), weights that are not above 0, no iteration.
    """
    x, phi, gamma = (np.asarray(part, dtype=np.float64) for part in (features, between, initial))
    if x.ndim != 2 or not len(x) or phi.shape != x.shape[1:] or gamma.ndim != 2 or len(gamma) != len(x):
        raise ShapeError(
            f"VBx of features {list(x.shape)}, variances {list(phi.shape)} and initial {list(gamma.shape)}: give "
            "[n, d], [d] and [n, k]"
        )
    if not all(np.isfinite(part).all() for part in (x, phi, gamma)) or not gamma.shape[1] or (phi < 0).any():
        raise ShapeError("VBx of values that are not finite, of negative variances or of no speaker: correct them")
    if not 0 <= loop_probability < 1 or not fa > 0 or not fb > 0 or iterations < 1:
        raise ConfigError(
            f"VBx with loop_probability {loop_probability}, fa {fa}, fb {fb} and {iterations} iterations: give 0 or "
            "more and below 1, above 0, above 0, and at least 1"
        )
    priors = np.full(gamma.shape[1], 1.0 / gamma.shape[1])
    constant = -0.5 * (np.square(x).sum(axis=1, keepdims=True) + x.shape[1] * np.log(2 * np.pi))
    scaled = x * np.sqrt(phi)
    evidence = list[float]()
    for _ in range(iterations):
        # speakers: their posterior means and variances, [k, d]
        variance = 1.0 / (1.0 + fa / fb * gamma.sum(axis=0)[:, None] * phi)
        mean = fa / fb * variance * (gamma.T @ scaled)
        log_likelihood = fa * (scaled @ mean.T - 0.5 * (variance + mean**2) @ phi + constant)
        gamma, log_total, priors = _assign(log_likelihood, priors, loop_probability)
        evidence.append(log_total + 0.5 * fb * float((np.log(variance) - variance - mean**2 + 1.0).sum()))
        if len(evidence) > 1 and evidence[-1] - evidence[-2] < tolerance:
            break
    return VBxResult(posterior=gamma, priors=priors, evidence=tuple(evidence))


def soft_assignment(labels: ArrayLike, smoothing: float = 5.0) -> Array:
    """Turn labels [n] from 0 into probabilities [n, k]: the softmax of `smoothing` for the label and 0 for others."""
    numbers = np.asarray(labels, dtype=np.int64)
    one_hot = np.exp(smoothing * (numbers[:, None] == np.arange(int(numbers.max()) + 1)))
    return np.asarray(one_hot / one_hot.sum(axis=1, keepdims=True), dtype=np.float64)


def _assign(log_likelihood: Array, priors: Array, loop: float) -> tuple[Array, float, Array]:
    """Return the posterior [n, k] of the speakers, the log-likelihood, and the new priors [k], by forward-backward.

    All states are reached from any other with their prior, so that a step costs k instead of k squared.
    """
    greatest = log_likelihood.max(axis=1, keepdims=True)
    likelihood = np.exp(log_likelihood - greatest)
    if not loop:
        joint = likelihood * priors
        totals = joint.sum(axis=1, keepdims=True)
        posterior = joint / totals
        return posterior, float(np.log(totals).sum() + greatest.sum()), posterior.sum(axis=0) / len(posterior)
    forward, backward = np.empty_like(likelihood), np.empty_like(likelihood)
    scales = np.empty(len(likelihood))
    drawn = (1.0 - loop) * priors
    state = likelihood[0] * priors
    for at in range(len(likelihood)):
        if at:
            state = likelihood[at] * (loop * state + drawn)
        scales[at] = state.sum()
        state = state / scales[at]
        forward[at] = state
    state = np.ones(len(priors))
    for at in range(len(likelihood) - 1, -1, -1):
        backward[at] = state
        weighted = likelihood[at] * state / scales[at]
        state = loop * weighted + drawn @ weighted
    posterior = forward * backward
    posterior /= posterior.sum(axis=1, keepdims=True)
    # how often each speaker was drawn rather than kept
    counts = posterior[0] + drawn * (likelihood[1:] * backward[1:] / scales[1:, None]).sum(axis=0)
    return posterior, float(np.log(scales).sum() + greatest.sum()), counts / counts.sum()
