"""VoxCeleb1 and VoxCeleb2: folders speaker/video/utterance, and a table of the speakers of each.

A. Nagrani, J. S. Chung and A. Zisserman, "VoxCeleb: a large-scale speaker identification dataset", Interspeech 2017;
J. S. Chung, A. Nagrani and A. Zisserman, "VoxCeleb2: Deep Speaker Recognition", Interspeech 2018.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator

from xvectors.corpus.json_lines import open_table
from xvectors.corpus.published.layout import Archive, Found, Layout, Row, Subset, one_file_each, stem
from xvectors.errors import ManifestError
from xvectors.text import agree, count, first_few

logger = logging.getLogger(__name__)

_SPEAKER = re.compile(r"id\d{5}")
_FIRST_TEST_SPEAKER, _LAST_TEST_SPEAKER = "id10270", "id10309"
"""The 40 speakers of VoxCeleb1's test set, whose names begin with E."""
TABLES = {"vox1": "vox1_meta.csv", "vox2": "vox2_meta.csv"}

LAYOUT_ARCHIVES = (
    Archive(
        name="vox1_dev_wav.zip",
        parts=tuple(f"vox1_dev_wav_part{part}" for part in ("aa", "ab", "ac", "ad")),
        md5={
            "vox1_dev_wav.zip": "ae63e55b951748cc486645f532ba230b",
            "vox1_dev_wav_partaa": "e395d020928bc15670b570a21695ed96",
            "vox1_dev_wav_partab": "bbfaaccefab65d82b21903e81a8a8020",
            "vox1_dev_wav_partac": "017d579a2a96a077f40042ec33e51512",
            "vox1_dev_wav_partad": "7bb1e9f70fddc7a678fa998ea8b3ba19",
        },
        folder="voxceleb1/dev",
    ),
    Archive(
        name="vox1_test_wav.zip",
        md5={"vox1_test_wav.zip": "185fdc63c3c739954633d50379a3d102"},
        folder="voxceleb1/test",
    ),
    Archive(
        name="vox2_dev_aac.zip",
        parts=tuple(f"vox2_dev_aac_part{part}" for part in ("aa", "ab", "ac", "ad", "ae", "af", "ag", "ah")),
        md5={
            "vox2_dev_aac.zip": "bbc063c46078a602ca71605645c2a402",
            "vox2_dev_aac_partaa": "da070494c573e5c0564b1d11c3b20577",
            "vox2_dev_aac_partab": "17fe6dab2b32b48abaf1676429cdd06f",
            "vox2_dev_aac_partac": "1de58e086c5edf63625af1cb6d831528",
            "vox2_dev_aac_partad": "5a043eb03e15c5a918ee6a52aad477f9",
            "vox2_dev_aac_partae": "cea401b624983e2d0b2a87fb5d59aa60",
            "vox2_dev_aac_partaf": "fc886d9ba90ab88e7880ee98effd6ae9",
            "vox2_dev_aac_partag": "d160ecc3f6ee3eed54d55349531cb42e",
            "vox2_dev_aac_partah": "6b84a81b9af72a9d9eecbb3b1f602e65",
        },
        folder="voxceleb2/dev",
    ),
    Archive(
        name="vox2_test_aac.zip",
        md5={"vox2_test_aac.zip": "0d2b3ea430a821c33263b5ea37ede312"},
        folder="voxceleb2/test",
    ),
)


def _rows(found: Found) -> Iterator[Row]:
    speakers = _speakers(found)
    unlisted: set[str] = set()
    for tree in found.trees:
        for path in one_file_each(tree.recordings(), found.left_out):
            folders = path.split("/")[:-1]
            if len(folders) < 2 or not _SPEAKER.fullmatch(folders[-2]):
                found.left_out["not in folders speaker/video, such as id10270/5r0dWxy17C8"] += 1
                continue
            speaker, video = folders[-2:]
            corpus = _corpus(speaker)
            if speaker not in speakers:
                unlisted.add(speaker)
            gender, nationality, part = speakers.get(speaker, ("", "", ""))
            part = part or _part(corpus, speaker, folders[:-2])
            split = "test" if part == "test" else ""
            utterance_id = f"{speaker}/{video}/{stem(path)}"
            subset = f"{corpus}-{part}" if part else corpus
            yield (
                *(tree.prefix + path, utterance_id, speaker, gender, "", f"{speaker}/{video}", "", split, subset),
                nationality,
            )
    for corpus, table in TABLES.items():
        names = sorted(name for name in unlisted if _corpus(name) == corpus)
        if names:
            logger.warning(
                "%s of VoxCeleb%s (%s) %s in no %s: gender and nationality stay unknown; add that table to the sources",
                *(count(len(names), "speaker"), corpus[-1], first_few(names), agree(len(names), "is", "are"), table),
            )


def _corpus(speaker: str) -> str:
    """Return the corpus of a speaker: the names of VoxCeleb1 go from id10001 on."""
    return "vox1" if speaker >= "id10001" else "vox2"


def _part(corpus: str, speaker: str, folders: list[str]) -> str:
    """Return dev or test for a speaker that no table lists; empty if nothing says it."""
    if corpus == "vox1":
        return "test" if _FIRST_TEST_SPEAKER <= speaker <= _LAST_TEST_SPEAKER else "dev"
    return next((name for name in reversed(folders) if name in ("dev", "test")), "")


def _speakers(found: Found) -> dict[str, tuple[str, str, str]]:
    """Return gender, nationality and dev or test of each speaker that the tables list."""
    speakers: dict[str, tuple[str, str, str]] = {}
    for corpus, name in TABLES.items():
        path = found.companion(name)
        if path is None:
            continue
        table = open_table(path)
        header = [column.strip().lower() for column in table.header]
        wanted = [f"voxceleb{corpus[-1]} id", "gender", "nationality", "set"]
        for column in ("gender", wanted[0]):
            if column not in header:
                raise ManifestError(f"{path}: has no column {column!r} (columns found: {', '.join(table.header)})")
        numbers = [header.index(column) if column in header else None for column in wanted]
        for block in table.blocks():
            for row in block:
                cells = ["" if number is None else row[number].strip() for number in numbers]
                speakers[cells[0]] = (cells[1], cells[2], cells[3].lower())
    return speakers


LAYOUT = Layout(
    name="voxceleb",
    title="VoxCeleb",
    archives=LAYOUT_ARCHIVES,
    subsets=(
        Subset(name="vox1-dev", num_speakers=1_211, num_recordings=148_642),
        Subset(name="vox1-test", num_speakers=40, num_recordings=4_874),
        Subset(name="vox2-dev", num_speakers=5_994, num_recordings=1_092_009),
        Subset(name="vox2-test", num_speakers=118, num_recordings=36_237),
    ),
    figures_from="the VoxCeleb site",
    hashes_from="the lists of voxceleb_trainer, by the corpus's authors",
    extra=("nationality",),
    rows=_rows,
    expected="folders speaker/video with recordings, such as wav/id10270/5r0dWxy17C8/00001.wav",
)
