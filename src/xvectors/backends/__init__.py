"""Back-ends: scores of embeddings, learned on training speakers, with calibration and fusion. No torch.

`make_backend("lda_plda").fit(embeddings, speakers).score(others, trials)` is the whole flow.
"""

from xvectors.backends.adaptation import ADAPTATIONS, adapt_coral, adapt_coral_plus, adapt_kaldi
from xvectors.backends.as_norm import ScoreNorm
from xvectors.backends.backend import BACKENDS, Backend, EnrolledModels, make_backend
from xvectors.backends.calibration import AffineCalibration, log_duration, log_magnitude, pair_quality
from xvectors.backends.cosine import Cosine, all_pairs_scores, cosine_scores, length_normalize
from xvectors.backends.fusion import Fusion
from xvectors.backends.plda import PLDA
from xvectors.backends.selection import CandidateResult, Selection, select_backend
from xvectors.backends.storage import load_backend, load_fusion, save_backend, save_fusion
from xvectors.backends.transforms import LDA, WCCN, Center, LengthNorm, Whiten

__all__ = [
    "ADAPTATIONS",
    "BACKENDS",
    "LDA",
    "PLDA",
    "WCCN",
    "AffineCalibration",
    "Backend",
    "CandidateResult",
    "Center",
    "Cosine",
    "EnrolledModels",
    "Fusion",
    "LengthNorm",
    "ScoreNorm",
    "Selection",
    "Whiten",
    "adapt_coral",
    "adapt_coral_plus",
    "adapt_kaldi",
    "all_pairs_scores",
    "cosine_scores",
    "length_normalize",
    "load_backend",
    "load_fusion",
    "log_duration",
    "log_magnitude",
    "make_backend",
    "pair_quality",
    "save_backend",
    "save_fusion",
    "select_backend",
]
