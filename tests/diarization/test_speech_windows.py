"""Windows of speech, what each stands for, and the turns they make."""

from __future__ import annotations

import numpy as np
import pytest

from xvectors.diarization.diarizer import turns_of
from xvectors.diarization.windows import SpeechWindows, cut_windows, joined_regions
from xvectors.errors import ConfigError, ShapeError


def test_windows_start_every_hop_and_end_with_their_region() -> None:
    regions = np.array([[1.0, 3.7], [5.0, 5.4], [6.0, 8.0]])
    starts, ends, numbers = cut_windows(regions, 1.5, 0.5)
    np.testing.assert_allclose(starts, [1.0, 1.5, 2.0, 2.2, 5.0, 6.0, 6.5])
    np.testing.assert_allclose(ends, [2.5, 3.0, 3.5, 3.7, 5.4, 7.5, 8.0])
    assert numbers.tolist() == [0, 0, 0, 0, 1, 2, 2]
    with pytest.raises(ConfigError, match="hop_s 2"):
        cut_windows(regions, 1.5, 2.0)


def test_what_windows_stand_for_fills_the_regions() -> None:
    regions = np.array([[1.0, 3.7], [5.0, 5.4]])
    starts, ends, numbers = cut_windows(regions, 1.5, 0.5)
    windows = SpeechWindows(
        regions=regions, start_s=starts, end_s=ends, region=numbers, embeddings=np.zeros((5, 2), dtype=np.float32)
    )
    np.testing.assert_allclose(windows.spans, [[1.0, 2.0], [2.0, 2.5], [2.5, 2.85], [2.85, 3.7], [5.0, 5.4]])
    assert windows.seconds.sum() == pytest.approx(3.1)


def test_regions_are_joined() -> None:
    np.testing.assert_allclose(joined_regions([[4, 5], [0, 1], [0.5, 2], [2.3, 3]], 0.3), [[0, 3], [4, 5]])
    assert joined_regions([]).shape == (0, 2)
    assert joined_regions([[1, 1]]).shape == (0, 2)
    for wrong in ([[2, 1]], [[0, np.nan]], [1, 2]):
        with pytest.raises(ShapeError, match="regions of speech"):
            joined_regions(wrong)


def test_windows_become_turns() -> None:
    spans = np.array([[0, 1], [1, 2], [2.2, 3], [3, 4], [4.5, 5], [5, 5.1], [5.1, 6], [8, 8.1]])
    turns = turns_of(spans, np.array([0, 0, 0, 1, 1, 0, 1, 2]))
    assert [(turn.start_s, turn.end_s, turn.speaker) for turn in turns] == [
        (0, 3, "speaker_1"),
        (3, 4, "speaker_2"),
        (4.5, 5, "speaker_2"),
        (5.1, 6, "speaker_2"),
        (8, 8.1, "speaker_3"),
    ]
