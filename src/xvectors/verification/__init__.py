"""Deciding whether two recordings are of one speaker. In: embeddings and durations. Out: scores and log-likelihood
ratios, by a back-end and a calibration that were learned on speakers the network does not know. No torch."""

from xvectors.verification.fingerprint import fingerprint_of
from xvectors.verification.learning import CROP_DURATIONS_S, Basis, learn_verifier
from xvectors.verification.verifier import (
    Verifier,
    cosine_verifier,
    load_verifier,
    save_verifier,
    verifier_of,
)

__all__ = [
    "CROP_DURATIONS_S",
    "Basis",
    "Verifier",
    "cosine_verifier",
    "fingerprint_of",
    "learn_verifier",
    "load_verifier",
    "save_verifier",
    "verifier_of",
]
