"""Recognize the columns of trial lists, enrollment files and score files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from xvectors.errors import ManifestError
from xvectors.files.tables import DELIMITERS
from xvectors.trials.text import text_lines

ALIASES = {
    "enroll": ("enroll", "enrol", "enrollment", "enrolment", "model", "modelid", "model_id", "utt1", "file1", "path1"),
    "test": ("test", "segment", "segmentid", "segment_id", "utt2", "file2", "path2"),
    "target": ("target", "label", "is_target", "targettype", "target_type", "key"),
}


def header_columns(path: Path, aliases: Mapping[str, tuple[str, ...]]) -> dict[str, int] | None:
    """Return the column number of each meaning; None for text without a header.

    Raises
    ------
    ManifestError
        For two columns with one meaning, and a .csv or .tsv file whose header lacks a meaning.
    """
    meanings = {alias: meaning for meaning, names in aliases.items() for alias in names}
    first = next((line for line in text_lines(path) if line.strip()), "")
    delimiter = max(DELIMITERS, key=first.count)
    names = [re.sub(r"[\s\-]+", "_", cell.strip().strip('"').lower()) for cell in first.split(delimiter)]
    columns: dict[str, int] = {}
    twice = ""
    for number, name in enumerate(names):
        meaning = meanings.get(name)
        if meaning is None:
            continue
        if meaning in columns:
            twice = f"columns {names[columns[meaning]]} and {name} both mean {meaning}; rename or remove one"
        else:
            columns[meaning] = number
    if len(columns) == len(aliases):
        if twice:
            raise ManifestError(f"{path}: {twice}")
        return columns
    if path.suffix.lower() in {".csv", ".tsv"} and first:
        *others, last = aliases
        raise ManifestError(
            f"{path}: the header must name the columns {', '.join(others)} and {last} "
            f"(columns found: {', '.join(names)})"
        )
    return None
