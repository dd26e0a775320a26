"""VoxBlink2: folders speaker/video/utterance, cut from downloaded videos by the published time stamps.

Y. Lin et al., "VoxBlink2: A 100K+ Speaker Recognition Corpus and the Open-Set Speaker-Identification Benchmark",
Interspeech 2024. Only annotations are published; many videos are gone, so fewer recordings than published are usual.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator

from xvectors.corpus.published.layout import Archive, Found, Layout, Row, Subset, one_file_each, stem
from xvectors.text import agree, count

logger = logging.getLogger(__name__)

_SPEAKER = re.compile(r"id\d{6}")
VIDEOS = "spk2videos"


def _rows(found: Found) -> Iterator[Row]:
    videos = _videos(found)
    there: set[tuple[str, str]] = set()
    for tree in found.trees:
        for path in one_file_each(tree.recordings(), found.left_out):
            folders = path.split("/")[:-1]
            if len(folders) < 2 or not _SPEAKER.fullmatch(folders[-2]):
                found.left_out["not in folders speaker/video, such as id000000/DwgYRqnQZHM"] += 1
                continue
            speaker, video = folders[-2:]
            if videos and video not in videos.get(speaker, ()):
                found.left_out[f"of a video that {VIDEOS} does not list for the speaker"] += 1
                continue
            there.add((speaker, video))
            session = f"{speaker}/{video}"
            yield (tree.prefix + path, f"{session}/{stem(path)}", speaker, "", "", session, "", "", "voxblink2")
    num_listed = sum(map(len, videos.values()))
    if len(there) < num_listed:
        gone = num_listed - len(there)
        logger.warning(
            "VoxBlink2: %s of %s %s no recordings here",
            f"{gone:,}",
            count(num_listed, "listed video"),
            agree(gone, "has", "have"),
        )


def _videos(found: Found) -> dict[str, set[str]]:
    """Return the videos of each speaker that `spk2videos` lists: lines `speaker,video,video,...`."""
    path = found.companion(f"data/{VIDEOS}") or found.companion(VIDEOS)
    if path is None:
        logger.warning("%s of vb2_meta.tar.gz is not there: the videos are not checked", VIDEOS)
        return {}
    videos: dict[str, set[str]] = {}
    with open(path, encoding="utf-8") as text:
        for line in text:
            speaker, *names = re.split(r"[,\s]+", line.strip())
            if speaker:
                videos.setdefault(speaker, set()).update(name for name in names if name)
    return videos


LAYOUT = Layout(
    name="voxblink2",
    title="VoxBlink2",
    archives=tuple(Archive(name=f"{name}.tar.gz") for name in ("spk_info", "vb2_meta", "asr_res")),
    pattern=re.compile(r"(voxblink2|vb2).*", re.IGNORECASE),
    only_metadata=re.compile(r"(spk_info|vb2_meta|asr_res)\.tar\.gz"),
    subsets=(Subset(name="voxblink2", num_speakers=111_284, num_recordings=9_904_382),),
    figures_from="the corpus's paper",
    rows=_rows,
    expected="folders speaker/video with recordings, such as id000000/DwgYRqnQZHM/00000.wav",
)
