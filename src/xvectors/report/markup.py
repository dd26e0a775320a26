"""Text, numbers and tables as HTML, everything that comes from outside escaped. In: values. Out: markup."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from unicodedata import category

from xvectors.evaluation.measures import Interval

TURNS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Marks of Unicode that write what follows in another direction."""
MOST_OF_NAME = 60  # characters of a name that are shown


def escaped(text: object) -> str:
    """The text for HTML and for quoted attributes; bytes of file names that are no UTF-8, control characters and those
    that turn the direction of writing become replacement characters."""
    clean = str(text).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return html.escape("".join("\N{REPLACEMENT CHARACTER}" if _is_control(c) else c for c in clean))


def _is_control(character: str) -> bool:
    return character in TURNS or (category(character) in {"Cc", "Cs"} and character not in "\n\t")


def shortened(name: str, most: int = 24) -> str:
    """The name, without the middle of a long one."""
    half = (most - 1) // 2
    return name if len(name) <= most else f"{name[:half]}…{name[-half:]}"


def named(name: str, most: int = MOST_OF_NAME) -> str:
    """A name from outside, kept apart from the direction of writing around it; a long one without its middle, which
    hovering shows."""
    if len(name) <= most:
        return f"<bdi>{escaped(name)}</bdi>"
    return f'<bdi title="{escaped(name)}">{escaped(shortened(name, most))}</bdi>'


def percent(share: float) -> str:
    """A share as percent, with as many decimals as tell it from 0."""
    return f"{100 * share:.{_decimals(share)}f}\N{NO-BREAK SPACE}%"


def share_of(errors: int, trials: int) -> str:
    """A rate of errors as percent; of no error it says of how many trials."""
    return percent(errors / trials) if errors else f"none of {trials:,}"


def _decimals(share: float) -> int:
    return 1 if share >= 0.1 else 2 if share >= 0.001 or share == 0 else 3


def amount(value: float, unit: str) -> str:
    """A figure in its unit: "share" as percent, "bits" with its name, "cost" as it is."""
    if unit == "share":
        return percent(value)
    return f"{value:.3f}\N{NO-BREAK SPACE}bits" if unit == "bits" else f"{value:.3f}"


def between(low: float, high: float, unit: str) -> str:
    """An interval: its unit once, both ends to the higher one's decimals."""
    first = f"{100 * low:.{_decimals(high)}f}" if unit == "share" else f"{low:.3f}"
    return f"{first}\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}{amount(high, unit)}"


def interval(found: Interval | None, unit: str) -> str:
    return between(found.low, found.high, unit) if found is not None else "–"


def score(value: float, calibrated: bool) -> str:
    """An LLR to two decimals, another score to three, with a proper minus."""
    return f"{value:.{2 if calibrated else 3}f}".replace("-", "\N{MINUS SIGN}")


def seconds(value: float) -> str:
    """A duration in the unit that suits it."""
    if not math.isfinite(value):
        return "unknown"
    if value < 90:
        return f"{value:.2g} s" if value < 10 else f"{value:.0f} s"
    return f"{value / 60:.1f} min" if value < 5400 else f"{value / 3600:.1f} h"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, kind: str = "", numbers: Iterable[int] = ()) -> str:
    """A table of cells that are markup already; the columns `numbers` are set right."""
    right = set(numbers)

    def cells(tag: str, row: Sequence[str]) -> str:
        return "".join(f"<{tag}{' class=n' if at in right else ''}>{cell}</{tag}>" for at, cell in enumerate(row))

    body = "\n".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return (
        f'<div class="wide"><table class="{kind}"><thead><tr>{cells("th", header)}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>"
    )


def pairs(rows: Iterable[tuple[str, str]]) -> str:
    """Names, which are escaped, and values, which are markup already."""
    return "<dl>" + "".join(f"<dt>{escaped(name)}</dt><dd>{value}</dd>" for name, value in rows) + "</dl>"


def bullets(lines: Sequence[str], *, shown: int = 10) -> str:
    """A list of lines, escaped; those beyond the first few behind a click."""
    items = [f"<li>{escaped(line)}</li>" for line in lines]
    rest = items[shown:]
    more = f"<details><summary>{len(rest):,} more</summary><ul>{''.join(rest)}</ul></details>" if rest else ""
    return f"<ul>{''.join(items[:shown])}</ul>{more}"
