"""Turn a recording's scores against enrolled speakers into matches and an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from xvectors.backends.dot_products import Rows
from xvectors.gallery.results import Identification, Match
from xvectors.gallery.store import Voiceprints
from xvectors.text import count
from xvectors.verification.decision import MIN_PROBABILITY, Evidence, accepts, caveats_of_prior

SAME_EMBEDDING = 1e-3
"""Relative distance up to which two embeddings count as those of one recording; batches and devices differ a little."""
SAME_S = 0.001


def rank_matches(evidence: Evidence, speakers: Sequence[str], *, num_enrolled: int) -> list[Match]:
    """Return one match for each speaker [k], the best first."""
    scores, llrs, posterior = evidence.scores, evidence.llrs, evidence.posterior
    if llrs is None or posterior is None:
        return [
            Match(
                speaker=speakers[at],
                score=float(scores[at]),
                llr=None,
                probability=None,
                threshold=None,
                same_speaker=None,
            )
            for at in np.argsort(-scores, kind="stable")
        ]
    # With one enrolled speaker, the probability of nobody is exact, where 1 - p is rounded.
    complement = [posterior.nobody] if num_enrolled == 1 else 1 - posterior.enrolled
    return [
        Match(
            speaker=speakers[at],
            score=float(scores[at]),
            llr=float(llrs[at]),
            probability=float(posterior.enrolled[at]),
            threshold=posterior.threshold,
            same_speaker=accepts(float(posterior.enrolled[at]), float(complement[at])),
        )
        for at in np.lexsort((-scores, -llrs))  # LLRs at a bound are alike, scores are not
    ]


def add_answer(
    found: Identification, evidence: Evidence, matches: Sequence[Match], greatest_llr: float | None = None
) -> Identification:
    """Add the answer that all matches, the best first, and the probability of nobody enrolled allow.

    Without probabilities, `found` is returned unchanged. `greatest_llr` is the bound of LLRs: where the best match
    reaches it and is still too uncertain, more calibration speakers are the remedy.
    """
    best = matches[0]
    if evidence.posterior is None or best.probability is None:
        return found
    p_nobody = evidence.posterior.nobody
    if best.same_speaker:
        before, after = found.p_target / found.num_enrolled, best.probability
    else:
        before, after = 1 - found.p_target, p_nobody
    decided = accepts(after, 1 - after) is True
    if decided:
        reasons = caveats_of_prior(_logit(after) - _logit(before), found.p_target)
    else:
        reasons = [_why_undecided(matches, p_nobody)]
        alike = len(matches) > 1 and matches[1].llr == best.llr
        if greatest_llr is not None and best.llr is not None and best.llr >= greatest_llr and not alike:
            reasons.append(
                f"the calibration set bears out LLRs of at most {greatest_llr:.1f}, too little for "
                f"{count(found.num_enrolled, 'enrolled speaker')}; calibrate on more speakers with `xvectors calibrate "
                "DIR --data`"
            )
    return replace(
        found,
        decided=decided,
        most_likely=best.speaker if best.probability > p_nobody else None,
        p_nobody=p_nobody,
        reasons=(*reasons, *found.reasons),
    )


def repeated_recordings(known: Voiceprints, rows: Rows, seconds: NDArray[np.float64]) -> tuple[int, ...]:
    """Return the indices of new recordings whose embedding and duration equal those of an earlier recording."""
    vectors, lengths = [*known.embeddings], [*known.duration_s]
    repeated = []
    for at, (row, length) in enumerate(zip(rows, seconds, strict=True)):
        slack = SAME_EMBEDDING * np.linalg.norm(row)
        if any(
            abs(length - other_s) < SAME_S and np.linalg.norm(row - other) < slack
            for other, other_s in zip(vectors, lengths, strict=True)
        ):
            repeated.append(at)
        vectors.append(row)
        lengths.append(length)
    return tuple(repeated)


def _why_undecided(matches: Sequence[Match], p_nobody: float) -> str:
    if accepts(1 - p_nobody, p_nobody) and len(matches) > 1:
        return f"the speaker is enrolled, but {matches[0].speaker} and {matches[1].speaker} sound too much alike"
    return f"no answer has a probability of {MIN_PROBABILITY:.0%}"


def _logit(probability: float) -> float:
    # the import takes as long as all other imports of a gallery together
    from scipy.special import logit

    return float(logit(probability))
