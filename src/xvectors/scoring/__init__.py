"""Scoring of embeddings: trials, cosine scores, error rates. In: arrays. Out: arrays, numbers. No torch."""

from xvectors.scoring.cosine import all_pairs_scores, cosine_scores, length_normalise
from xvectors.scoring.metrics import EERResult, MinDCF, eer, error_rates, min_dcf
from xvectors.scoring.trials import Trials, all_pairs, count_pairs

__all__ = [
    "EERResult",
    "MinDCF",
    "Trials",
    "all_pairs",
    "all_pairs_scores",
    "cosine_scores",
    "count_pairs",
    "eer",
    "error_rates",
    "length_normalise",
    "min_dcf",
]
