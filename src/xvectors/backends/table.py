"""The back-ends by name. In: a name. Out: a back-end to fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from xvectors.backends.backend import Backend
from xvectors.backends.plda import PLDA
from xvectors.backends.score_normalization import ScoreNorm
from xvectors.backends.scorers import Cosine
from xvectors.backends.transforms import LDA, WCCN, Center, LengthNorm, Whiten
from xvectors.errors import ConfigError
from xvectors.text import nearest

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
    """The back-end of that name, not fitted; ConfigError for a name that is not known."""
    if name not in BACKENDS:
        raise ConfigError(f"back-end {name!r} is not known{nearest(name, BACKENDS)}")
    return BACKENDS[name]()
