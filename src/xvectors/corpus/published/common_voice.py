"""Mozilla's Common Voice: clips and tables of one language, or of several. A client counts as a speaker.

R. Ardila et al., "Common Voice: A Massively-Multilingual Speech Corpus", LREC 2020. One client can be several people.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from xvectors.corpus.published.layout import Found, Layout, Row
from xvectors.errors import ManifestError
from xvectors.files.tables import Table

VALIDATED = "validated.tsv"
DIVISIONS = ("train", "dev", "test")
"""The published division for speech recognition; their clips are validated too."""
DURATIONS = "clip_durations.tsv"


def _rows(found: Found) -> Iterator[Row]:
    tables = found.companions(VALIDATED)
    if not tables:
        raise ManifestError(
            f"{found.places[0]}: has no {VALIDATED}; name the folder of a language, with {VALIDATED} and clips"
        )
    for table in tables:
        yield from _language(table.parent, found)


def _language(folder: Path, found: Found) -> Iterator[Row]:
    clips = folder / "clips"
    if not clips.is_dir():
        raise ManifestError(f"{clips}: no such folder; a language has its recordings there")
    there = {entry.name for entry in os.scandir(clips)}
    division = {
        row["path"]: name
        for name in DIVISIONS
        if (folder / f"{name}.tsv").is_file()
        for row in _cells(folder / f"{name}.tsv")
    }
    durations_s = _durations(folder / DURATIONS)
    prefix = _prefix(clips, found)
    for row in _cells(folder / VALIDATED):
        clip = row["path"]
        name = clip if clip in there else f"{clip}.mp3"  # the first releases leave the suffix out
        if name not in there:
            found.left_out["without a clip"] += 1
            continue
        duration_s = durations_s.get(clip, "")
        part = division.get(clip, "validated")
        yield (
            *(
                f"{prefix}{name}",
                os.path.splitext(name)[0],
                row["client_id"],
                row.get("gender", ""),
                row.get("age", ""),
            ),
            *(
                "",
                duration_s,
                "",
                part,
                row.get("locale", "") or folder.name,
                row.get("accents", row.get("accent", "")),
            ),
        )


def _prefix(clips: Path, found: Found) -> str:
    """Return what stands before a clip's name in the manifest."""
    for tree in found.trees:
        if clips.is_relative_to(tree.folder.absolute()):
            below = clips.relative_to(tree.folder.absolute()).as_posix()
            return f"{tree.prefix}{below}/"
    return f"{clips.as_posix()}/"


def _cells(path: Path) -> Iterator[dict[str, str]]:
    """Yield the rows by column. Raises ManifestError for a table without path and client_id."""
    table = Table(path)
    for column in ("client_id", "path"):
        if column not in table.header:
            raise ManifestError(f"{path}: has no column {column}; take the table of the release as it is")
    for block in table.blocks():
        for row in block:
            yield dict(zip(table.header, row, strict=True))


def _durations(path: Path) -> dict[str, str]:
    """Return the seconds of each clip that the release states (`clip`, `duration[ms]`); empty without that table."""
    if not path.is_file():
        return {}
    return {row[0]: f"{float(row[1]) / 1000:g}" for block in Table(path).blocks() for row in block}


LAYOUT = Layout(
    name="common-voice",
    title="Common Voice",
    pattern=re.compile(r"(cv-corpus|common-?_?voice|mcv).*\.(tar\.gz|tgz|tar|zip)", re.IGNORECASE),
    figures_from="",
    extra=("locale", "accents"),
    rows=_rows,
    expected=f"the folder of a language, with {VALIDATED} and clips",
)
