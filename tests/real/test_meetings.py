"""Excerpts of real meetings with the starter, where it is known when somebody speaks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from xvectors import Diarizer
from xvectors.diarization import read_rttm, read_uem
from xvectors.diarization.scoring import score_turns

pytestmark = [pytest.mark.real, pytest.mark.slow]

EXCERPTS = Path(__file__).resolve().parents[3] / "shared" / "data" / "diarization" / "ami-excerpts"


def test_ten_excerpts_of_ami() -> None:
    """Overlap is a fifth of the speech and is missed; elsewhere few speakers are confused, if some found together."""
    if not EXCERPTS.is_dir():
        pytest.skip("no ami-excerpts at data/diarization beside the checkout")
    diarizer = Diarizer.from_pretrained("starter", device="cpu")
    truth, found, regions = {}, {}, {}
    for path in sorted((EXCERPTS / "audio").iterdir()):
        (truth[path.stem],) = read_rttm(EXCERPTS / "rttm" / f"{path.stem}.rttm").turns.values()
        (regions[path.stem],) = read_uem(EXCERPTS / "uem" / f"{path.stem}.uem").values()
        speech = [(turn.start_s, turn.end_s) for turn in truth[path.stem]]
        found[path.stem] = list(diarizer.diarize(path, speech_s=speech))
    assert len(truth) == 10
    scores = score_turns(truth, found, regions)
    full, forgiving = scores.total("full"), scores.total("forgiving")
    assert full.missed == pytest.approx(0.209, abs=0.01)  # what the reference has of overlap
    assert full.confusion < 0.15
    assert forgiving.der < 0.12
    assert np.isfinite(full.jer)
