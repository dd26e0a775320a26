"""The command drift: whether what comes in is still like what the system was calibrated on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xvectors.cli.shared import MEASURE, Json, SystemOption, command, one_of, print_lines
from xvectors.cli.terminal import print_json
from xvectors.errors import ConfigError
from xvectors.text import count

if TYPE_CHECKING:
    from xvectors.verification.drift import Drift, Incoming, Period
    from xvectors.verification.verifier import Verifier

HEADER = ("period", "recordings", "unlike", "untested", "speech", "most frequent")


@command(
    MEASURE,
    "xvectors drift gallery.sqlite --system exp/mine",
    "xvectors drift embeddings.npz --system exp/mine --data recordings --date-column recorded --by week",
)
def drift_command(
    incoming: Annotated[
        str,
        typer.Argument(
            metavar="GALLERY|EMB",
            help="Gallery, by the time of enrollment, or embeddings written by `xvectors embed`, as npz or Parquet.",
        ),
    ],
    system: SystemOption = "starter",
    by: Annotated[
        str,
        typer.Option(
            metavar="PERIOD",
            help="Length of a period: month, week, or all for everything at once.",
            autocompletion=one_of("month", "week", "all"),
        ),
    ] = "month",
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DATA",
            help="With embeddings: manifest, or a folder with one, that has the dates of the recordings.",
        ),
    ] = None,
    date_column: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="With embeddings: column of dates (ISO 8601) in EMB or DATA. By default date.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare what comes in over time with what the calibration rests on.

    For each period: how many recordings are unlike the calibration set, and in which way. The last line says whether
    to calibrate again.
    """
    from xvectors.verification.drift import measure_drift

    verifier, found = _read(incoming, system, data, date_column)
    drift = measure_drift(verifier, found, by=by)
    if as_json:
        print_json({"system": system, "by": by, **drift.to_dict()})
        return
    print_lines(_table(drift))
    print_lines(_notes(drift))
    print_lines([drift.advice])


def _read(incoming: str, system: str, data: Path | None, date_column: str | None) -> tuple[Verifier, Incoming]:
    from xvectors.embeddings import SUFFIXES, are_embeddings

    path = Path(incoming)
    if are_embeddings(path) or path.suffix.lower() in SUFFIXES:
        from xvectors.dated_embeddings import read_incoming
        from xvectors.labeled_embeddings import load_back_end

        return load_back_end(system), read_incoming(path, data=data, date_column=date_column)
    if data is not None or date_column is not None:
        raise ConfigError("--data and --date-column are for embeddings: a gallery knows when it was enrolled")
    from xvectors.gallery.incoming import read_gallery

    return read_gallery(incoming, system=system)


def _table(drift: Drift) -> Iterator[str]:
    rows = [HEADER, *map(_cells, drift.periods)]
    name, *widths = (max(len(row[at]) for row in rows) for at in range(len(HEADER) - 1))
    for first, *numbers, words in rows:
        cells = [cell.rjust(width) for cell, width in zip(numbers, widths, strict=True)]
        yield "  ".join([first.ljust(name), *cells, words]).rstrip()


def _cells(period: Period) -> tuple[str, ...]:
    from xvectors.verification.drift import percent

    marks = "*" * period.unlike_calibration + "+" * period.unlike_first
    seconds = "unknown" if period.median_speech_s is None else f"{period.median_speech_s:.1f} s"
    words = "" if period.unusual is None else f"{period.unusual} ({period.num_unusual:,})"
    shares = f"{percent(period.share_shifted)}{marks:<2}", percent(period.share_untested)
    return period.name, f"{period.num_recordings:,}", *shares, seconds, words


def _notes(drift: Drift) -> Iterator[str]:
    from xvectors.verification.drift import percent

    first = drift.periods[0]
    source = "assumed, as the calibration does not record its own share"
    if drift.recorded_share is not None:
        source = f"of the calibration set, {percent(drift.recorded_share)} are unlike its other speakers' recordings"
    marked = any(period.unlike_calibration for period in drift.periods)
    yield f"usual: {percent(drift.usual_share)} ({source}){'; * is more than that, and than chance' * marked}"
    if any(period.unlike_first for period in drift.periods):
        yield f"+ is more than in {first.name}, and than chance"
    if not drift.dated:
        yield "the recordings have no dates, so all are one period; --date-column or --data gives dates"
    if unknown := sum(period.num_unknown for period in drift.periods):
        yield f"{count(unknown, 'recording')} without a known condition, which no share counts"
    if drift.num_left_out:
        yield f"left out: {count(drift.num_left_out, 'voiceprint')} of other systems"
