"""Back-ends: scores of embeddings, learned on training speakers, with calibration and fusion. No torch.

`make_backend("lda_plda").fit(embeddings, speakers).score(others, trials)` is the whole flow.
"""

from typing import TYPE_CHECKING

from xvectors.lazy import lazy_names

if TYPE_CHECKING:
    from xvectors.backends.adaptation import ADAPTATIONS as ADAPTATIONS
    from xvectors.backends.adaptation import adapt_coral as adapt_coral
    from xvectors.backends.adaptation import adapt_coral_plus as adapt_coral_plus
    from xvectors.backends.adaptation import adapt_kaldi as adapt_kaldi
    from xvectors.backends.as_norm import ScoreNorm as ScoreNorm
    from xvectors.backends.backend import BACKENDS as BACKENDS
    from xvectors.backends.backend import Backend as Backend
    from xvectors.backends.backend import EnrolledModels as EnrolledModels
    from xvectors.backends.backend import make_backend as make_backend
    from xvectors.backends.calibration import AffineCalibration as AffineCalibration
    from xvectors.backends.calibration import log_duration as log_duration
    from xvectors.backends.calibration import log_magnitude as log_magnitude
    from xvectors.backends.calibration import pair_quality as pair_quality
    from xvectors.backends.condition import ConditionCalibration as ConditionCalibration
    from xvectors.backends.cosine import Cosine as Cosine
    from xvectors.backends.cosine import all_pairs_scores as all_pairs_scores
    from xvectors.backends.cosine import cosine_scores as cosine_scores
    from xvectors.backends.cosine import length_normalize as length_normalize
    from xvectors.backends.fusion import Fusion as Fusion
    from xvectors.backends.plda import PLDA as PLDA
    from xvectors.backends.selection import CandidateResult as CandidateResult
    from xvectors.backends.selection import Selection as Selection
    from xvectors.backends.selection import select_backend as select_backend
    from xvectors.backends.storage import load_backend as load_backend
    from xvectors.backends.storage import load_fusion as load_fusion
    from xvectors.backends.storage import save_backend as save_backend
    from xvectors.backends.storage import save_fusion as save_fusion
    from xvectors.backends.transforms import LDA as LDA
    from xvectors.backends.transforms import WCCN as WCCN
    from xvectors.backends.transforms import Center as Center
    from xvectors.backends.transforms import LengthNorm as LengthNorm
    from xvectors.backends.transforms import Whiten as Whiten

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    adaptation="ADAPTATIONS adapt_coral adapt_coral_plus adapt_kaldi",
    as_norm="ScoreNorm",
    backend="BACKENDS Backend EnrolledModels make_backend",
    calibration="AffineCalibration log_duration log_magnitude pair_quality",
    condition="ConditionCalibration",
    cosine="Cosine all_pairs_scores cosine_scores length_normalize",
    fusion="Fusion",
    plda="PLDA",
    selection="CandidateResult Selection select_backend",
    storage="load_backend load_fusion save_backend save_fusion",
    transforms="Center LDA LengthNorm WCCN Whiten",
)
