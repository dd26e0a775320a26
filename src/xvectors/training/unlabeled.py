"""Unlabeled recordings of a new domain: embedded from a folder or a list of them, or read as embeddings."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xvectors.corpus import Manifest, scan
from xvectors.corpus.columns import find_columns
from xvectors.corpus.json_lines import open_table
from xvectors.corpus.walk import counted, walk_recordings
from xvectors.embeddings import are_embeddings, load_embeddings
from xvectors.encoder import SpeakerEncoder
from xvectors.encoder.sharded import fingerprint_of_parts
from xvectors.errors import CheckpointError, ManifestError
from xvectors.files import why_no_file
from xvectors.files.tables import Table
from xvectors.text import agree, count
from xvectors.verification.decision import MIN_SPEECH_S
from xvectors.verification.new_domain import NewDomain

logger = logging.getLogger(__name__)

MAX_EMBEDDED = 2000
"""Largest number of recordings to embed, evenly spread over the list: more say no more about the domain."""
COLUMNS = ("path", "id", "start_s", "duration_s", "end_s")
NOBODY = "unlabeled"


@dataclass(frozen=True, kw_only=True, eq=False)
class Unlabeled:
    """Usable recordings, and how many were listed."""

    new: NewDomain
    num_listed: int


def open_unlabeled(path: str | Path, encoder: SpeakerEncoder, *, progress: bool = False) -> Unlabeled:
    """Embed a folder of recordings, at any depth, or a manifest of them; or read their embeddings.

    A manifest needs the column `path` alone; speakers are ignored. The preprocessing is that of `verify`. Recordings
    that cannot be used or hold too little speech are left out, with a warning, and so are embeddings with NaN.

    Raises
    ------
    ManifestError
        A folder without recordings, or none that can be used.
    CheckpointError
        Embeddings by another system.
    """
    path = Path(path)
    if are_embeddings(path) or _is_table_of_embeddings(path):
        return _read(path, encoder)
    manifest = _listed(path)
    num_listed = len(manifest)
    if num_listed > MAX_EMBEDDED:
        manifest = manifest.take(np.unique(np.linspace(0, num_listed - 1, MAX_EMBEDDED).round().astype(np.int64)))
    shortest_s = encoder.fbank.samples_for(encoder.model.context_frames) / encoder.sample_rate_hz
    usable = scan(
        manifest, min_duration_s=shortest_s, max_rejected=encoder.recipe.data.max_rejected, progress=progress
    ).manifest
    embedded = encoder.encode_manifest(usable, progress=progress)
    for _, reason in embedded.failures:
        logger.warning("left out: %s", reason)
    enough = embedded.speech_s >= MIN_SPEECH_S
    if not enough.any():
        raise ManifestError(f"{path}: no speech was found in the recordings to adapt to; give recordings of speech")
    return Unlabeled(
        new=NewDomain(embeddings=embedded.embeddings[enough], duration_s=embedded.speech_s[enough]),
        num_listed=num_listed,
    )


def _listed(path: Path) -> Manifest:
    if path.is_dir():
        passed_over: Counter[str] = Counter()
        found = list(walk_recordings(path, passed_over))
        if not found:
            others = f" (it holds {counted(passed_over)})" if passed_over else ""
            raise ManifestError(f"{path}: no recording in this folder{others}; give a folder of recordings to adapt to")
        return Manifest.from_rows([{"path": name, "speaker": NOBODY} for name in found], root=path)
    if why := why_no_file(path):
        raise ManifestError(f"{path}: {why}; give a folder of recordings to adapt to, a manifest, or embeddings")
    return Manifest.from_rows(_rows(path), root=path.parent)


def _rows(path: Path) -> Iterator[dict[str, str]]:
    table = open_table(path)
    known = find_columns(table.header, str(path), required=("path",)).known
    for block in table.blocks():
        for row in block:
            yield {name: row[at] for name, at in known.items() if name in COLUMNS} | {"speaker": NOBODY}


def _is_table_of_embeddings(path: Path) -> bool:
    return path.suffix.lower() == ".csv" and path.is_file() and "e0" in Table(path).header


def _read(path: Path, encoder: SpeakerEncoder) -> Unlabeled:
    arrays = load_embeddings(path, optional=("speech_s", "duration_s"))
    rows, dim = arrays["embeddings"], encoder.embedding_dim
    if rows.shape[1] != dim:
        raise CheckpointError(
            f"{path}: embeddings have {rows.shape[1]} dimensions, and those of this system {dim}; embed the recordings "
            "with this system, or give the recordings themselves"
        )
    if path.is_dir() and (other := fingerprint_of_parts(path)) not in (None, encoder.fingerprint):
        raise CheckpointError(
            f"{path}: embeddings by another system ({str(other)[:12]}); embed the recordings with this system, or give "
            "the recordings themselves"
        )
    usable = np.isfinite(rows).all(axis=1) & (rows != 0).any(axis=1)
    if unusable := int(np.count_nonzero(~usable)):
        logger.warning(
            "%s: left out %s with NaN, infinity or only zeros", path, f"{unusable} of {count(len(rows), 'embedding')}"
        )
    if "speech_s" in arrays and np.issubdtype(arrays["speech_s"].dtype, np.floating):
        usable &= ~(arrays["speech_s"] < MIN_SPEECH_S)
    if not usable.any():
        raise CheckpointError(f"{path}: no usable {agree(len(rows), 'embedding', 'embeddings')}; embed them again")
    seconds = next((arrays[name] for name in ("speech_s", "duration_s") if name in arrays), None)
    if seconds is not None and not (np.issubdtype(seconds.dtype, np.floating) and (seconds[usable] >= 0).all()):
        seconds = None
    return Unlabeled(
        new=NewDomain(embeddings=rows[usable], duration_s=None if seconds is None else seconds[usable]),
        num_listed=len(rows),
    )
