"""Verification: decide whether recordings are of one speaker, by calibrated log-likelihood ratios. No torch."""

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
