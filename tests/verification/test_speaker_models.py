"""Models of speakers: what the conditions of their recordings come to."""

from __future__ import annotations

import numpy as np

from xvectors.audio.condition import unknown_conditions
from xvectors.backends import make_backend
from xvectors.verification import Verifier
from xvectors.verification.speaker_models import model_speakers


def test_a_models_condition_is_the_mean_weighted_by_duration() -> None:
    """A recording counts for at most the longest that the calibration knows, and a measure that is unknown for none."""
    verifier = Verifier(backend=make_backend("cosine"), name="cosine", basis={"longest_s": 3.0})
    speaker, seconds = np.array([4, 4, 4, 9, 12]), np.array([1.0, 2.0, 60.0, 5.0, 1.0])
    conditions = unknown_conditions(5)
    conditions[:4, 0] = -10.0, -20.0, -40.0, -7.0
    conditions[:3, 4] = 7.0, np.nan, 8.0
    models = model_speakers(verifier, speaker, np.eye(5, dtype=np.float32), seconds, conditions)
    assert models.speaker.tolist() == [4, 9, 12]
    assert models.duration_s.tolist() == [6.0, 3.0, 1.0]
    assert models.condition.dtype == np.float32
    # (1 * -10 + 2 * -20 + 3 * -40) / 6, and (1 * 7 + 3 * 8) / 4
    np.testing.assert_allclose(models.condition[:, 0], [-170 / 6, -7.0, np.nan], rtol=1e-6)
    np.testing.assert_allclose(models.condition[:, 4], [7.75, np.nan, np.nan], rtol=1e-6)
    assert np.isnan(models.condition[:, [1, 2, 3, 5]]).all()
    unknown = model_speakers(verifier, speaker, np.eye(5, dtype=np.float32), seconds)
    assert unknown.condition.shape == (3, 6)
    assert np.isnan(unknown.condition).all()
