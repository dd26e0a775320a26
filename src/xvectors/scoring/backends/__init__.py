"""Back-ends: from embeddings to scores, learnt on training speakers. In: embeddings [n, D], speakers, trials.
Out: float32 scores. `make_backend("lda_plda").fit(embeddings, speakers).score(others, trials)`; no torch."""

from xvectors.scoring.backends.adaptation import ADAPTATIONS, adapt_coral, adapt_coral_plus, adapt_kaldi
from xvectors.scoring.backends.backend import Backend, Enrolled
from xvectors.scoring.backends.fusion import Fusion
from xvectors.scoring.backends.normalisation import ScoreNorm
from xvectors.scoring.backends.plda import PLDA
from xvectors.scoring.backends.scorers import Cosine
from xvectors.scoring.backends.selection import Figures, Selection, select_backend
from xvectors.scoring.backends.storage import load_backend, load_fusion, save_backend, save_fusion
from xvectors.scoring.backends.table import BACKENDS, make_backend
from xvectors.scoring.backends.transforms import LDA, WCCN, Centre, LengthNorm, Whiten

__all__ = [
    "ADAPTATIONS",
    "BACKENDS",
    "LDA",
    "PLDA",
    "WCCN",
    "Backend",
    "Centre",
    "Cosine",
    "Enrolled",
    "Figures",
    "Fusion",
    "LengthNorm",
    "ScoreNorm",
    "Selection",
    "Whiten",
    "adapt_coral",
    "adapt_coral_plus",
    "adapt_kaldi",
    "load_backend",
    "load_fusion",
    "make_backend",
    "save_backend",
    "save_fusion",
    "select_backend",
]
