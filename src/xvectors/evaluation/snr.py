"""The SNR of every recording of a corpus. In: a manifest. Out: dB, as `xvectors.audio.quality` estimates them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xvectors import audio
from xvectors.audio.quality import estimate_snr_db
from xvectors.corpus import Manifest
from xvectors.errors import AudioError, MissingExtraError


def snr_of_rows(manifest: Manifest) -> NDArray[np.float64]:
    """[n] the SNR in dB of each row's recording, NaN where it cannot be read any more or no estimate can be made."""
    has_segments = manifest.has_segments
    found = np.full(len(manifest), np.nan)
    for row in range(len(manifest)):
        duration_s = float(manifest.duration_s[row]) if has_segments else np.nan
        try:
            samples, rate = audio.read(
                manifest.full_path(row),
                start_s=float(manifest.start_s[row]),
                duration_s=None if np.isnan(duration_s) else duration_s,
            )
        except (AudioError, MissingExtraError):
            continue
        found[row] = estimate_snr_db(samples, rate)
    return found
