"""pyannote's annotations: there and back, and scored with ours."""

from __future__ import annotations

import sys

import pytest
from pyannote.core import Annotation, Segment

from xvectors.diarization import Diarization, Turn
from xvectors.diarization.scoring import score_turns
from xvectors.diarization.turn_files.annotation import turns_of_annotation
from xvectors.errors import MissingExtraError, ShapeError

TURNS = (
    Turn(start_s=0.5, end_s=2.0, speaker="speaker_1", name="Ann Lee"),
    Turn(start_s=1.5, end_s=3.0, speaker="speaker_2"),
    Turn(start_s=1.5, end_s=3.0, speaker="speaker_3"),
)


def test_turns_become_tracks_and_come_back() -> None:
    annotation = Diarization(recording="a b", turns=TURNS).to_annotation()
    assert annotation.uri == "a b"
    assert annotation.labels() == ["Ann Lee", "speaker_2", "speaker_3"]
    assert annotation.label_duration("Ann Lee") == pytest.approx(1.5)
    assert len(list(annotation.itertracks())) == 3
    back = turns_of_annotation(annotation)
    assert [(turn.start_s, turn.end_s, turn.label) for turn in back] == [
        (turn.start_s, turn.end_s, turn.label) for turn in TURNS
    ]
    found = Diarization.from_annotation(annotation)
    assert (found.recording, list(found)) == ("a b", back)
    assert found.speech_s == {"Ann Lee": 1.5, "speaker_2": 1.5, "speaker_3": 1.5}


def test_annotations_are_scored_as_turns() -> None:
    reference, found = Annotation(uri="x"), Annotation(uri="x")
    reference[Segment(0, 4), "t"] = 1
    reference[Segment(4, 10), "t"] = 2
    found[Segment(0, 5), 0] = "a"
    found[Segment(5, 10), 1] = "b"
    errors = score_turns({"x": turns_of_annotation(reference)}, {"x": turns_of_annotation(found)}).total()
    assert errors.der == pytest.approx(0.1)


def test_what_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ShapeError, match="give a pyannote"):
        turns_of_annotation([Segment(0, 1)])
    monkeypatch.setitem(sys.modules, "pyannote.core", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'xvectors\[pyannote\]'"):
        Diarization(recording="x", turns=TURNS).to_annotation()
