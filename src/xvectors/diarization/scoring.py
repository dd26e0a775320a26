"""Score RTTM files of a diarization against those of a reference: DER in three strictnesses, and JER."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xvectors.diarization.turn_files.rttm import read_rttm, read_uem
from xvectors.diarization.turns import Turn, as_arrays
from xvectors.errors import ManifestError
from xvectors.metrics.diarization import (
    MIN_RECORDINGS,
    NO_ERRORS,
    SCORINGS,
    DiarizationErrors,
    RecordingInterval,
    Scoring,
    der_interval,
    diarization_errors,
)
from xvectors.text import count, first_few


@dataclass(frozen=True, kw_only=True)
class DiarizationScores:
    """The errors of each recording under one or more scorings.

    Attributes
    ----------
    errors : by name of the scoring ("full", "fair", "forgiving"), then by recording
    notes : what was read and not scored as it stands
    """

    errors: dict[str, dict[str, DiarizationErrors]]
    notes: tuple[str, ...] = ()

    def total(self, scoring: str = "full") -> DiarizationErrors:
        """Return the errors of all recordings together."""
        return sum(self.errors[scoring].values(), NO_ERRORS)

    def interval(self, scoring: str = "full") -> RecordingInterval | None:
        """Return the DER with its 95 % bootstrap interval over recordings; None with fewer than 5 recordings."""
        found = list(self.errors[scoring].values())
        if len(found) < MIN_RECORDINGS or not self.total(scoring).speech_s:
            return None
        return der_interval(found)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, rates as fractions."""
        scorings = {}
        for name, recordings in self.errors.items():
            interval = self.interval(name)
            scorings[name] = {
                **SCORINGS[name]._asdict(),
                **_rates(self.total(name)),
                "interval": None if interval is None else asdict(interval),
                "recordings": {recording: _rates(errors) for recording, errors in recordings.items()},
            }
        return {"scorings": scorings, "notes": list(self.notes)}


def score_files(
    reference: str | os.PathLike[str],
    hypothesis: str | os.PathLike[str],
    uem: str | os.PathLike[str] | None = None,
    scorings: Mapping[str, Scoring] = SCORINGS,
) -> DiarizationScores:
    """Score the turns of an RTTM file against a reference, by default as "full", "fair" and "forgiving".

    A recording of the reference that the hypothesis lacks counts as missed. With a UEM, its recordings are scored, also
    those without turns; without, each recording from the first to the last boundary of both files.

    Raises
    ------
    ManifestError
        A file cannot be read, or reference and hypothesis, or reference and UEM, have no recording in common.
    """
    ref, hyp = read_rttm(reference), read_rttm(hypothesis)
    regions = None if uem is None else read_uem(uem)
    notes = [*ref.notes, *hyp.notes]
    _check_common(reference, ref.turns, hypothesis, hyp.turns)
    if uem is not None and regions is not None:
        _check_common(reference, ref.turns, uem, regions)
        notes += _remark("has no turns of", hypothesis, regions.keys() - hyp.turns.keys(), "nothing is found there")
        notes += _remark("lacks", uem, ref.turns.keys() - regions.keys(), "not scored")
        names = list(regions)
    else:
        notes += _remark("lacks", hypothesis, ref.turns.keys() - hyp.turns.keys(), "all their speech is missed")
        names = list(ref.turns)
    notes += _remark("alone has", hypothesis, hyp.turns.keys() - set(names), "not scored")
    found = score_turns({name: ref.turns.get(name, []) for name in names}, hyp.turns, regions, scorings)
    return DiarizationScores(errors=found.errors, notes=tuple(notes))


def score_turns(
    reference: Mapping[str, Sequence[Turn]],
    hypothesis: Mapping[str, Sequence[Turn]],
    regions_s: Mapping[str, NDArray[np.float64]] | None = None,
    scorings: Mapping[str, Scoring] = SCORINGS,
) -> DiarizationScores:
    """Score the turns of each recording of the reference; regions are as in `diarization_errors`."""
    arrays = {name: (as_arrays(turns), as_arrays(hypothesis.get(name, []))) for name, turns in reference.items()}
    return DiarizationScores(
        errors={
            scoring: {
                name: diarization_errors(*sides, regions_s=None if regions_s is None else regions_s[name], scoring=what)
                for name, sides in arrays.items()
            }
            for scoring, what in scorings.items()
        }
    )


def describe_scores(scores: DiarizationScores) -> Iterator[str]:
    """Yield a table in lines to read: a row a scoring, rates in percent."""
    yield f"{'':10}{'DER %':>7} {'95 % interval':>15} {'missed':>7} {'false alarm':>12} {'confusion':>10} {'JER %':>7}"
    for name in scores.errors:
        total, interval = scores.total(name), scores.interval(name)
        ends = "" if interval is None else f"{100 * interval.low:.1f} to {100 * interval.high:.1f}"
        yield (
            f"{name:10}{100 * total.der:7.2f} {ends:>15} {100 * total.missed:7.2f} {100 * total.false_alarm:12.2f} "
            f"{100 * total.confusion:10.2f} {100 * total.jer:7.2f}"
        )
    total = scores.total("full") if "full" in scores.errors else scores.total(next(iter(scores.errors)))
    recordings = len(next(iter(scores.errors.values())))
    speakers = count(total.num_speakers, "speaker")
    yield f"{count(recordings, 'recording')}, {total.speech_s:.1f} s of speech by {speakers}"
    if recordings < MIN_RECORDINGS:
        yield f"no intervals: they need at least {MIN_RECORDINGS} recordings"


def _rates(errors: DiarizationErrors) -> dict[str, Any]:
    rates = {name: getattr(errors, name) for name in ("der", "missed", "false_alarm", "confusion", "jer")}
    rates = {name: None if np.isnan(value) else value for name, value in rates.items()}
    return {**rates, **asdict(errors)}


def _check_common(
    path: str | os.PathLike[str],
    names: Mapping[str, object],
    other_path: str | os.PathLike[str],
    other: Mapping[str, object],
) -> None:
    if not names.keys() & other.keys():
        raise ManifestError(
            f"{path} and {other_path} have no recording in common: one has {first_few(names)}, the other "
            f"{first_few(other)}; give both the same names"
        )


def _remark(verb: str, path: str | os.PathLike[str], names: set[str], effect: str) -> list[str]:
    return [f"{path} {verb} {first_few(sorted(names))}: {effect}"] if names else []
