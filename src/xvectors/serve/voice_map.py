"""Enrolled voices in the plane: the first two principal components of the speakers' mean embeddings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xvectors.backends import length_normalize
from xvectors.evaluation.speaker_map import principal_plane
from xvectors.gallery import Gallery

MAX_POINTS = 500
"""Largest number of speakers on a map."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """A speaker on the map; `nearest` is the speaker whose mean embedding has the highest cosine with this one's."""

    name: str
    x: float
    y: float
    nearest: str | None
    cosine: float | None


@dataclass(frozen=True, kw_only=True)
class VoiceMap:
    """The speakers of a gallery in the plane.

    Attributes
    ----------
    points : sorted by name; coordinates from -1 to 1
    num_speakers : speakers with a voiceprint that matches, of whom the map shows MAX_POINTS at most
    shown_share : share of the variance that the plane shows, from 0 to 1
    """

    points: tuple[Point, ...]
    num_speakers: int
    shown_share: float


def map_voices(gallery: Gallery, *, at_most: int = MAX_POINTS) -> VoiceMap:
    """Lay out the speakers of a gallery's system, an even selection where there are more than `at_most`."""
    now = gallery.now()
    ids = gallery.store.speaker_ids(gallery.system, now)
    chosen = ids if len(ids) <= at_most else ids[np.linspace(0, len(ids) - 1, at_most).astype(np.int64)]
    names = gallery.store.names_of(chosen.tolist())
    found = gallery.store.voiceprints_of(sorted(names), gallery.system, now)
    if not len(found.speaker):
        return VoiceMap(points=(), num_speakers=len(ids), shown_share=1.0)
    speakers, first = np.unique(found.speaker, return_index=True)
    means = np.add.reduceat(length_normalize(found.embeddings), first, axis=0)
    unit = means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
    plane = principal_plane(unit)
    # the sign of a component is arbitrary: the speaker farthest out is on the positive side
    plane *= np.where(plane[np.abs(plane).argmax(axis=0), [0, 1]] < 0, -1, 1)
    variance = float(np.square(unit - unit.mean(axis=0)).sum())
    shown_share = min(1.0, float(np.square(plane).sum()) / variance) if variance > 0 else 1.0
    plane /= max(float(np.abs(plane).max()), 1e-12)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -np.inf)
    points = []
    for at, number in enumerate(speakers.tolist()):
        other = int(cosines[at].argmax()) if len(speakers) > 1 else None
        points.append(
            Point(
                name=names[number],
                x=float(plane[at, 0]),
                y=float(plane[at, 1]),
                nearest=None if other is None else names[int(speakers[other])],
                cosine=None if other is None else float(cosines[at, other]),
            )
        )
    points.sort(key=lambda point: point.name)
    return VoiceMap(points=tuple(points), num_speakers=len(ids), shown_share=shown_share)
