"""Verification: decide whether recordings are of one speaker, by calibrated log-likelihood ratios. No torch."""

from typing import TYPE_CHECKING

from xvectors.lazy import lazy_names

if TYPE_CHECKING:
    from xvectors.verification.calibration_set import Basis as Basis
    from xvectors.verification.fingerprint import fingerprint_of as fingerprint_of
    from xvectors.verification.learning import CROP_DURATIONS_S as CROP_DURATIONS_S
    from xvectors.verification.learning import learn_verifier as learn_verifier
    from xvectors.verification.verifier import Verifier as Verifier
    from xvectors.verification.verifier import cosine_verifier as cosine_verifier
    from xvectors.verification.verifier import load_verifier as load_verifier
    from xvectors.verification.verifier import save_verifier as save_verifier
    from xvectors.verification.verifier import verifier_of as verifier_of

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    calibration_set="Basis",
    fingerprint="fingerprint_of",
    learning="CROP_DURATIONS_S learn_verifier",
    verifier="Verifier cosine_verifier load_verifier save_verifier verifier_of",
)
