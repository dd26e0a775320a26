"""Turns as pyannote's annotations, and annotations as turns, for what is written against `pyannote.core`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from xvectors.diarization.turns import Turn, in_order
from xvectors.errors import MissingExtraError, ShapeError

if TYPE_CHECKING:
    from pyannote.core import Annotation


def as_annotation(recording: str, turns: Sequence[Turn]) -> Annotation:
    """Return turns as a `pyannote.core.Annotation`: its `uri` is the recording, each turn a track of its own.

    Labels are those of `Turn.label`. Raises MissingExtraError without pyannote.core.
    """
    try:
        from pyannote.core import Annotation, Segment
    except ImportError as error:
        raise MissingExtraError(
            "annotations need pyannote.core; install it with pip install 'xvectors[pyannote]'"
        ) from error
    annotation = Annotation(uri=recording)
    for track, turn in enumerate(in_order(turns)):
        annotation[Segment(turn.start_s, turn.end_s), track] = turn.label
    return annotation


def turns_of_annotation(annotation: Any) -> list[Turn]:
    """Return the tracks of a `pyannote.core.Annotation` as turns, in order of time; their labels become text.

    Raises ShapeError for an object without tracks.
    """
    if not hasattr(annotation, "itertracks"):
        raise ShapeError(f"a {type(annotation).__name__} has no tracks; give a pyannote.core.Annotation")
    return in_order(
        Turn(start_s=float(segment.start), end_s=float(segment.end), speaker=str(label))
        for segment, _, label in annotation.itertracks(yield_label=True)
    )
