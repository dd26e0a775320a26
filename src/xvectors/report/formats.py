"""Names, numbers and units as the report writes them: plain text, which the templates escape."""

from __future__ import annotations

import math
from unicodedata import category

DIRECTION_MARKS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Unicode's embeddings, overrides and isolates, which change the direction of the text that follows."""
MAX_NAME = 60  # characters
NBSP = "\N{NO-BREAK SPACE}"


def clean(text: object) -> str:
    """Replace undecoded bytes, control characters and direction marks by replacement characters."""
    given = str(text)
    if given.isascii() and given.isprintable():
        return given
    decoded = given.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return "".join("\N{REPLACEMENT CHARACTER}" if _is_unsafe(c) else c for c in decoded)


def _is_unsafe(character: str) -> bool:
    return character in DIRECTION_MARKS or (category(character) in {"Cc", "Cs"} and character not in "\n\t")


def shortened(name: str, max_length: int = 24) -> str:
    """Return the name, with an ellipsis for the middle of a long one."""
    half = (max_length - 1) // 2
    return name if len(name) <= max_length else f"{name[:half]}…{name[-half:]}"


def percent(share: float) -> str:
    """Write a share as percent, with enough decimals to tell it from 0."""
    return f"{100 * share:.{_decimals(share)}f}{NBSP}%"


def error_rate(errors: int, trials: int) -> str:
    """Write a rate as percent, or how many trials were made without an error."""
    return percent(errors / trials) if errors else f"none of {trials:,}"


def _decimals(share: float) -> int:
    return 1 if share >= 0.1 else 2 if share >= 0.001 or share == 0 else 3


def amount(value: float, unit: str) -> str:
    """Write a measure in its unit: "share" as percent, "bits" with the unit, "cost" as a number."""
    if unit == "share":
        return percent(value)
    return f"{value:.3f}{NBSP}bits" if unit == "bits" else f"{value:.3f}"


def between(low: float | None, high: float | None, unit: str) -> str:
    """Write an interval with its unit once, both ends to the decimals of the upper one; a dash where there is none."""
    if low is None or high is None:
        return "–"
    first = f"{100 * low:.{_decimals(high)}f}" if unit == "share" else f"{low:.3f}"
    return f"{first}{NBSP}to{NBSP}{amount(high, unit)}"


def confidence_level(confidence: float) -> str:
    """Write 0.95 as 95 %."""
    return f"{100 * confidence:g}{NBSP}%"


def score(value: float, calibrated: bool) -> str:
    """Write an LLR to two decimals and any other score to three."""
    return minus(f"{value:.{2 if calibrated else 3}f}")


def percentage_points(difference: float) -> str:
    """Write a difference of shares with its sign, to a tenth of a percentage point."""
    rounded = round(100 * difference, 1) + 0.0
    return minus(f"{rounded:+.1f}") if rounded else "0.0"


def minus(number: str) -> str:
    """Replace hyphens by minus signs."""
    return number.replace("-", "\N{MINUS SIGN}")


def seconds(value: float) -> str:
    """Write a duration in the unit that suits it."""
    if not math.isfinite(value):
        return "unknown"
    if value < 90:
        return f"{value:.2g} s" if value < 10 else f"{value:.0f} s"
    return f"{value / 60:.1f} min" if value < 5400 else f"{value / 3600:.1f} h"
