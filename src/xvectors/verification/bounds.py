"""The least and the greatest LLR that a calibration set can bear out.

After the empirical lower and upper bound, ELUB (Vergeer et al., Forensic Science International: Genetics 2016): if one
more trial than was seen scored on the wrong side of all others, LLRs beyond the bounds would cost more than no LLRs at
all. Trials of the same speakers are not independent, so that pairs of speakers and disjoint pairs of recordings are
counted, not trials.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def llr_bounds(
    speakers: NDArray[np.signedinteger], domains: NDArray[np.signedinteger] | None = None
) -> tuple[float, float]:
    """Return the least and the greatest natural-log LLR.

    Parameters
    ----------
    speakers
        [n] number of the speaker of each recording.
    domains
        [n] number of the domain of each recording, if trials are within domains.

    Returns
    -------
    The LLR is at most log(1 + pairs of different speakers), and at least -log(1 + disjoint pairs of recordings of one
    speaker).
    """
    kinds = np.zeros_like(speakers) if domains is None else domains
    pairs = repeated = 0
    for kind in np.unique(kinds):
        _, counts = np.unique(speakers[kinds == kind], return_counts=True)
        pairs += len(counts) * (len(counts) - 1) // 2
        repeated += int((counts // 2).sum())
    return -math.log1p(max(1, repeated)), math.log1p(max(1, pairs))
