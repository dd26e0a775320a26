"""Give overlapped speech a second speaker: whoever of the others speaks nearest to it in time."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace

from xvectors.diarization.turns import Turn, in_order
from xvectors.diarization.windows import Regions, joined_regions

JOINED_S = 0.05
"""A speaker's turns with at most this between them are one, once the second speakers are in."""


def with_second_speakers(turns: Sequence[Turn], overlap: Regions) -> list[Turn]:
    """Return turns in which the overlapped regions have two speakers.

    Each part of a region that a turn covers goes also to the speaker of the nearest turn of somebody else: the one
    that ends or begins closest to the part. Where two are equally near, the one after it speaks, since most overlap is
    of people who begin before another has ended. Parts outside of all turns, and recordings of one speaker, stay as
    they are.

    Parameters
    ----------
    turns
        In order of time, one speaker at a time. All turns of a speaker have the same name and answer.
    overlap
        [k, 2], starts and ends in seconds.
    """
    added, starts = list[Turn](), [turn.start_s for turn in turns]
    for start_s, end_s in overlap.tolist():
        at = max(0, bisect_right(starts, start_s) - 1)
        while at < len(turns) and turns[at].start_s < end_s:
            first, last = max(start_s, turns[at].start_s), min(end_s, turns[at].end_s)
            other = _nearest_other(turns, at, first, last) if last > first else None
            if other is not None:
                added.append(Turn(start_s=first, end_s=last, speaker=other))
            at += 1
    spans: dict[str, list[tuple[float, float]]] = {}
    for turn in [*turns, *added]:
        spans.setdefault(turn.speaker, []).append((turn.start_s, turn.end_s))
    one_of = {turn.speaker: turn for turn in turns}
    return in_order(
        replace(one_of[speaker], start_s=start_s, end_s=end_s)
        for speaker, own in spans.items()
        for start_s, end_s in joined_regions(own, JOINED_S).tolist()
    )


def _nearest_other(turns: Sequence[Turn], at: int, start_s: float, end_s: float) -> str | None:
    """Return who else speaks nearest to a part of turn `at`; None where nobody else does."""
    speaker = turns[at].speaker
    before = next((turn for turn in (turns[back] for back in range(at - 1, -1, -1)) if turn.speaker != speaker), None)
    after = next((turn for turn in itertools.islice(turns, at + 1, None) if turn.speaker != speaker), None)
    if before is None or after is None:
        found = before or after
        return None if found is None else found.speaker
    return after.speaker if after.start_s - end_s <= start_s - before.end_s else before.speaker
