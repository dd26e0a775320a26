"""LibriSpeech: folders subset/speaker/chapter, and SPEAKERS.TXT. A chapter, read in one go, counts as a session.

V. Panayotov, G. Chen, D. Povey and S. Khudanpur, "LibriSpeech: an ASR corpus based on public domain audio books",
ICASSP 2015.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path

from xvectors.corpus.published.layout import Archive, Found, Layout, Row, Subset, one_file_each, stem
from xvectors.errors import ManifestError

logger = logging.getLogger(__name__)

_UTTERANCE = re.compile(r"(?P<speaker>\d+)-(?P<chapter>\d+)-\d+")
SPEAKERS = "SPEAKERS.TXT"
_PUBLISHED = (
    ("dev-clean", 40, 2_703, "42e2234ba48799c1f50f24a7926300a1"),
    ("dev-other", 33, 2_864, "c8d0bcc9cca99d4f8b62fcc847357931"),
    ("test-clean", 40, 2_620, "32fa31d27d2e1cad72775fee3f4849a9"),
    ("test-other", 33, 2_939, "fb5a50374b501bb3bac4815ee91d3135"),
    ("train-clean-100", 251, 28_539, "2a93770f6d5c6c964bc36631d331a522"),
    ("train-clean-360", 921, 104_014, "c0e676e450a7ff2f54aeade5171606fa"),
    ("train-other-500", 1_166, 148_688, "d1a0fd59409feb2c614ce4d30c387708"),
)
"""Subset, speakers, recordings, and MD5 of the archive."""
_SPLITS = {"dev": "val", "test": "test"}


def _rows(found: Found) -> Iterator[Row]:
    genders = _genders(found)
    for tree in found.trees:
        for path in one_file_each(tree.recordings(), found.left_out):
            names = path.split("/")
            match = _UTTERANCE.fullmatch(stem(path))
            if match is None or names[-3:-1] != [match["speaker"], match["chapter"]]:
                found.left_out["not named SPEAKER/CHAPTER/SPEAKER-CHAPTER-NUMBER"] += 1
                continue
            speaker, chapter = match.groups()
            subset = names[-4] if len(names) > 3 else tree.folder.name
            split = _SPLITS.get(subset.partition("-")[0], "")
            session = f"{speaker}/{chapter}"
            yield (tree.prefix + path, stem(path), speaker, genders.get(speaker, ""), "", session, "", split, subset)


def _genders(found: Found) -> dict[str, str]:
    """Return the genders that SPEAKERS.TXT lists: lines `14 | F | train-clean-360 | 25.03 | name`."""
    path = found.companion(SPEAKERS)
    if path is None:
        above = next((p for tree in found.trees if (p := tree.folder.absolute().parent / SPEAKERS).is_file()), None)
        if above is None:
            logger.warning("%s is not there: genders stay unknown", SPEAKERS)
            return {}
        path = above
    return dict(_lines(path))


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    with open(path, encoding="utf-8", errors="replace") as text:
        for number, line in enumerate(text, start=1):
            if line.startswith(";") or not line.strip():
                continue
            cells = [cell.strip() for cell in line.split("|")]
            if len(cells) < 3 or cells[1] not in ("F", "M"):
                raise ManifestError(
                    f"{path}: line {number} is not SPEAKER | F or M | SUBSET | ...; take the published file"
                )
            yield cells[0], cells[1].lower()


LAYOUT = Layout(
    name="librispeech",
    title="LibriSpeech",
    archives=tuple(Archive(name=f"{name}.tar.gz", md5={f"{name}.tar.gz": md5}) for name, _, _, md5 in _PUBLISHED),
    subsets=tuple(
        Subset(name=name, num_speakers=speakers, num_recordings=recordings)
        for name, speakers, recordings, _ in _PUBLISHED
    ),
    figures_from="the corpus's paper and its transcripts",
    hashes_from="OpenSLR 12, md5sum.txt",
    rows=_rows,
    expected="folders subset/speaker/chapter, such as train-clean-100/103/1240/103-1240-0000.flac",
)
