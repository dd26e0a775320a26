"""Prepare the groups of trials for the page: those that differ from the whole, those that do not, the small ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xvectors.evaluation.result import Evaluation
from xvectors.evaluation.slices import Slice, SliceMeasure
from xvectors.report.formats import amount, between, confidence_level, percent, percentage_points

ADULT_YEARS = 18
DIMENSIONS = {
    "gender": "gender",
    "age": "age",
    "age difference": "difference in age",
    "shorter recording": "length of the shorter recording",
    "noisier recording, SNR": "noise (SNR) of the noisier recording",
    "session": "recording session",
}
"""Other dimensions are columns of the corpus."""
ADULTS = {"female speakers": "women", "male speakers": "men", "a female and a male speaker": "a woman and a man"}
WITH_CHILDREN = {
    "female speakers": "girls and women",
    "male speakers": "boys and men",
    "a female and a male speaker": "one female, one male",
}
STRIP_ENDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 1.0)
STRIP_WIDTH, STRIP_MARGIN = 120.0, 3.0


@dataclass(frozen=True)
class Cell:
    """A value in a table, what stands in small print below it, and whether it departs from the whole."""

    text: str
    below: str = ""
    departs: bool = False


def view_slices(evaluation: Evaluation) -> dict[str, Any]:
    """Return the values of slices.html."""
    found = evaluation.slices
    with np.errstate(invalid="ignore"):
        group_names = WITH_CHILDREN if (evaluation.manifest.age < ADULT_YEARS).any() else ADULTS
    keys = ["frr", "far", *(["actual_dcf"] if evaluation.is_calibrated else [])]
    most = max(
        measure.value if measure.high is None else measure.high
        for one in (found.whole, *found.slices)
        if (measure := one.measures.get("eer")) is not None
    )
    top = next(end for end in STRIP_ENDS if end >= most)

    def view(one: Slice) -> dict[str, Any]:
        eer = one.measures.get("eer")
        return {
            "name": group_names.get(one.name, one.name) if one.dimension == "gender" else one.name,
            "dimension": _dimension(one),
            "note": "" if eer else one.note,
            "eer": _cell(eer, "share"),
            "strip": eer and _strip(eer, found.whole.measures["eer"].value, top),
            "rates": [_rate(one, key) for key in keys],
            "difference": _difference(None if one is found.whole else eer),
            "speakers": f"{one.num_speakers:,}",
            "trials": (
                "all" if one.kind == "non-targets" else f"{one.num_target:,}",
                "all" if one.kind == "targets" else f"{one.num_nontarget:,}",
            ),
        }

    same = [one for one in found.slices if not one.departs and "eer" in one.measures]
    differing = [one for one in found.slices if one.departs]
    return {
        "total": len(found.slices),
        "level": confidence_level(found.confidence),
        "top": percent(top),
        "whole": view(found.whole),
        "differing": [view(one) for one in differing],
        "same": [view(one) for one in same],
        "same_dimensions": _listed(same, without=differing),
        "small": [view(one) for one in found.slices if not one.departs and "eer" not in one.measures],
    }


def _dimension(one: Slice) -> str:
    """Return the name of the slice's dimension; the whole has none."""
    return one.dimension and DIMENSIONS.get(one.dimension, f"column “{one.dimension}”")


def _listed(slices: Sequence[Slice], *, without: Sequence[Slice]) -> str:
    """Name the dimensions of slices in words, except those of the slices `without`."""
    others = set(map(_dimension, without))
    names = [name for name in dict.fromkeys(map(_dimension, slices)) if name not in others]
    return " or ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)


def _rate(one: Slice, key: str) -> Cell:
    measure = one.measures.get(key)
    if measure is not None and measure.value == 0 and key in ("frr", "far"):
        trials = one.num_target if key == "frr" else one.num_nontarget
        return Cell("0 %", f"0 of {trials:,}", measure.departs)
    return _cell(measure, "cost" if key == "actual_dcf" else "share")


def _cell(measure: SliceMeasure | None, unit: str) -> Cell:
    if measure is None:
        return Cell("–")
    interval = "" if measure.low is None else between(measure.low, measure.high, unit)
    return Cell(amount(measure.value, unit), interval, measure.departs)


def _difference(eer: SliceMeasure | None) -> Cell:
    if eer is None:
        return Cell("–")
    low, high = eer.difference_low, eer.difference_high
    interval = "" if low is None or high is None else f"{percentage_points(low)} to {percentage_points(high)}"
    return Cell(percentage_points(eer.difference), interval, eer.departs)


def _strip(eer: SliceMeasure, whole: float, top: float) -> dict[str, Any]:
    """Return the places of a value, its interval and the whole's value on a strip that ends at `top`."""

    def at(share: float | None) -> float | None:
        inner = STRIP_WIDTH - 2 * STRIP_MARGIN
        return None if share is None else round(STRIP_MARGIN + inner * min(share, top) / top, 1)

    return {
        "value": at(eer.value),
        "low": at(eer.low),
        "high": at(eer.high),
        "whole": at(whole),
        "departs": eer.departs,
    }
