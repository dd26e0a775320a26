"""The voiceprints of a gallery as recordings that came in over time, to be compared with the calibration set."""

from __future__ import annotations

from os import PathLike

import numpy as np

from xvectors.audio.condition import joined_conditions
from xvectors.errors import GalleryError
from xvectors.gallery.opening import Location, open_gallery
from xvectors.text import count
from xvectors.verification.decision import OTHER_SYSTEM_REMEDY
from xvectors.verification.drift import Incoming
from xvectors.verification.verifier import Verifier


def read_gallery(location: Location, *, system: str | PathLike[str]) -> tuple[Verifier, Incoming]:
    """Return the system's verifier, and the condition, seconds and time of enrollment of its voiceprints in a gallery.

    Expired voiceprints are not looked at.

    Raises
    ------
    GalleryError
        The gallery cannot be opened, has no voiceprint of this system, or none with a condition.
    CheckpointError
        `system` is not a system, or its calibration is damaged.
    """
    with open_gallery(location, system=system) as gallery:
        now, place = gallery.now(), gallery.store.location
        rows = [each.voiceprint for each in gallery.store.voiceprints()]
    rows = [row for row in rows if row.expires_at is None or row.expires_at > now]
    own = [row for row in rows if row.system == gallery.system]
    if not rows:
        raise GalleryError(f"{place}: nobody is enrolled; `xvectors enroll NAME AUDIO` does so")
    if not own:
        raise GalleryError(
            f"{place}: all {count(len(rows), 'voiceprint')} are of another system than {system}; name theirs with "
            f"--system, or {OTHER_SYSTEM_REMEDY}"
        )
    if all(row.condition is None or np.isnan(row.condition).all() for row in own):
        raise GalleryError(
            f"{place}: no voiceprint has a condition: they were enrolled by an earlier version; enroll again"
        )
    return gallery.verifier, Incoming(
        condition=joined_conditions([row.condition for row in own]),
        speech_s=np.array([row.duration_s for row in own]),
        dates=[row.enrolled_at for row in own],
        num_left_out=len(rows) - len(own),
    )
