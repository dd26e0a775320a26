"""Open a corpus in any known layout: CSV, folders of speakers, VoxCeleb, the laboratory exercise, Kaldi.

Nothing is executed, and no recording is opened.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from xvectors.corpus.builder import ManifestBuilder
from xvectors.corpus.columns import find_columns
from xvectors.corpus.kaldi import read_kaldi
from xvectors.corpus.layouts import speaker_places
from xvectors.corpus.manifest import Manifest
from xvectors.corpus.metadata import SpeakerTable, UtteranceTable, read_metadata
from xvectors.corpus.walk import AUDIO_SUFFIXES, counted, is_recording, unknown_files, walk_recordings
from xvectors.errors import ManifestError
from xvectors.files import as_on_disk
from xvectors.files.tables import Table
from xvectors.text import agree, composed, count, first_few

logger = logging.getLogger(__name__)

MANIFEST_NAMES = ("metadata.csv", "manifest.csv")
COMMON_VOICE_NAMES = ("validated.tsv", "train.tsv", "dev.tsv", "test.tsv")
VOXCELEB_NAMES = ("vox1_meta.csv", "vox2_meta.csv")


def open_corpus(
    data: str | os.PathLike[str],
    *,
    metadata: str | os.PathLike[str] | None = None,
    root: str | os.PathLike[str] | None = None,
    speaker_level: int | None = None,
) -> Manifest:
    """Open a corpus.

    Parameters
    ----------
    data
        A manifest CSV (see `Manifest.read_csv`); or a folder: with a manifest (metadata.csv, else
        manifest.csv, with a column for paths), a Kaldi data directory (wav.scp, utt2spk, optional
        spk2gender, spk2age, utt2dur, segments), or one sub-folder per speaker, whose first sub-folders, if
        any, are sessions. vox1_meta.csv, vox2_meta.csv or a metadata.csv without paths, in the folder or
        above it, is used.
    metadata
        Table about the recordings of a folder, with one row per utterance (see `read_lab_metadata`), per session
        of a speaker, or per speaker. The `Set` column of VoxCeleb, its published division, is kept as an extra
        column and not used as `split`.
    root
        Folder that relative paths of a manifest or of wav.scp start from, by default that of the table.
    speaker_level
        Depth of the speaker folders: 1 for the folders in `data`, 2 for those below them. Default: 1, unless
        `metadata` names the speakers or the tree has the layout of LibriSpeech, VoxCeleb, TIMIT, VCTK or AISHELL.

    Raises
    ------
    ManifestError
        For a corpus that cannot be understood, such as folders named like parts of a corpus.

    Notes
    -----
    A warning counts the speakers that only the metadata or only the folder has; their gender and age stay unknown.
    """
    data = Path(as_on_disk(data))
    if data.is_file():
        if is_recording(data.name):
            raise ManifestError(f"{data} is a recording; give a folder of recordings or a manifest CSV")
        if metadata is not None:
            raise ManifestError(f"{data}: metadata describes a folder; add the columns of {metadata} to the manifest")
        _check_no_level(speaker_level, data)
        return Manifest.read_csv(data, root=root)
    if not data.is_dir():
        raise ManifestError(f"{data}: no such folder or manifest; check the path")
    if metadata is not None:
        return _with_metadata(data, Path(metadata), root, speaker_level)
    for name in MANIFEST_NAMES:
        if (data / name).is_file():
            if "path" in find_columns(Table(data / name).header, str(data / name), required=()).known:
                _check_no_level(speaker_level, data / name)
                return Manifest.read_csv(data / name, root=root)
            return _with_metadata(data, data / name, root, speaker_level)
    if (data / "wav.scp").is_file():
        _check_no_level(speaker_level, data / "utt2spk")
        return read_kaldi(data, root=root)
    if (data / "clips").is_dir() and (listed := [name for name in COMMON_VOICE_NAMES if (data / name).is_file()]):
        _check_no_level(speaker_level, data / listed[0])
        if listed[0] == COMMON_VOICE_NAMES[0]:  # the other tables list the same clips
            return Manifest.read_csv(data / listed[0], root=root)
        raise ManifestError(f"{data}: holds several tables of Common Voice; name one of them: {data / listed[0]}")
    tables = [folder / name for folder in (data, data.absolute().parent) for name in VOXCELEB_NAMES]
    return _speaker_folders(data, [read_metadata(table) for table in tables if table.is_file()], speaker_level)


def _check_no_level(speaker_level: int | None, table: Path) -> None:
    if speaker_level is not None:
        raise ManifestError(f"speaker_level is for speakers named by folders; here {table} names them, so leave it out")


def read_lab_metadata(data_directory: str | os.PathLike[str], metadata_file: str | os.PathLike[str]) -> Manifest:
    """Read a table with one row per utterance, and find the recording of each row.

    A path column is relative to `data_directory` or to the folder of the table. Without one, the file is
    `<speaker>/<session>/<id>` or `<speaker>/<session>/<what follows the last "_" of id>`, with any suffix
    of recordings, without `<session>/` if the table has no sessions. Rows without a file are left out, with a
    warning. Raises ManifestError if no row has a file.
    """
    table = read_metadata(Path(metadata_file))
    if not isinstance(table, UtteranceTable):
        raise ManifestError(
            f"{metadata_file}: does not have one row per utterance; it needs a column path, or id and speaker"
        )
    return _listed_utterances(Path(data_directory), table, None)


def _with_metadata(
    data: Path, metadata: Path, root: str | os.PathLike[str] | None, speaker_level: int | None
) -> Manifest:
    table = read_metadata(metadata)
    if isinstance(table, UtteranceTable):
        _check_no_level(speaker_level, metadata)
        return _listed_utterances(data, table, root)
    return _speaker_folders(data, [table], speaker_level, required=True)


def _listed_utterances(data: Path, table: UtteranceTable, root: str | os.PathLike[str] | None) -> Manifest:
    """Return the manifest of the rows whose recordings exist, found by path or by the layout."""
    places = [Path(root)] if root is not None else [data, table.path.parent]
    if table.has_paths:
        found, base = _best_place(table, places)
    else:
        base = places[0]
        found = table.locate({composed(os.path.splitext(path)[0]): path for path in walk_recordings(base)})
    missing = [row for row, path in enumerate(found) if path is None]
    if len(missing) == len(found):
        raise ManifestError(
            f"{table.path}: none of its {len(found)} rows has a recording; looked for "
            f"{table.expected(missing[0])} in {' and '.join(map(str, places if table.has_paths else [base]))}"
        )
    if missing:
        logger.warning(
            "%s: %d of %s %s left out, such as %s",
            *(
                table.path,
                len(missing),
                count(len(found), "row"),
                agree(len(missing), "has no recording and is", "have no recording and are"),
                first_few(table.expected(row) for row in missing),
            ),
        )
    return table.manifest(found, base, source=table.path)


def _best_place(table: UtteranceTable, places: Sequence[Path]) -> tuple[list[str | None], Path]:
    """Return the existing paths of the table, below the folder where most of them exist."""
    tried = [
        ([path if os.path.isfile(as_on_disk(os.path.join(place, path))) else None for path in table.paths()], place)
        for place in places
    ]
    return max(tried, key=lambda result: sum(path is not None for path in result[0]))


def _speaker_folders(
    data: Path,
    tables: Sequence[SpeakerTable | UtteranceTable],
    speaker_level: int | None,
    *,
    required: bool = False,
) -> Manifest:
    """Read one sub-folder per speaker, described by the first table that names some of them, at any depth."""
    passed_over: Counter[str] = Counter()
    paths = list(walk_recordings(data, passed_over))
    if not paths:
        there = f"; there are {counted(passed_over)}" if passed_over else ""
        raise ManifestError(f"{data}: has no recordings; looked for files ending in {', '.join(AUDIO_SUFFIXES)}{there}")
    if unknown := unknown_files(passed_over):
        logger.warning(
            "%s: files with unknown suffixes are skipped: %s; convert those that are recordings, or list them "
            "in a manifest",
            *(data, unknown),
        )
    parts = [path.split("/") for path in paths]
    describing = [table for table in tables if isinstance(table, SpeakerTable)]
    fitting = [(t, level) for t in describing if (level := t.speaker_level(parts)) is not None]
    if required and not fitting:
        folders = sorted({names[0] for names in parts if len(names) > 1})
        raise ManifestError(
            f"{data}: none of its folders ({first_few(folders)}) is a speaker of {describing[0].path} "
            f"({describing[0].examples()}); check that the two belong together"
        )
    table, level = fitting[0] if fitting else (None, None)
    if speaker_level is None and level is not None:
        places = [level if len(names) > level + 1 else None for names in parts]
    else:
        places = speaker_places(data, parts, speaker_level)
    loose = [path for path, place in zip(paths, places, strict=True) if place is None]
    if len(loose) == len(paths):
        raise ManifestError(
            f"{data}: {count(len(loose), 'recording')} {agree(len(loose), 'lies', 'lie')} in no speaker's "
            f"folder, such as {first_few(loose)}; "
            "make one sub-folder per speaker, or write a manifest"
        )
    if loose:
        logger.warning(
            "%s: %s in no speaker's folder and %s left out, such as %s",
            data,
            f"{count(len(loose), 'recording')} {agree(len(loose), 'lies', 'lie')}",
            agree(len(loose), "is", "are"),
            first_few(loose),
        )
    # Folders such as day1 tell a speaker's sessions apart; where a table describes them (VoxCeleb), their names are
    # those of videos, which several speakers may share.
    skipped = 0 if table is None else 1
    rows = []
    for path, names, place in zip(paths, parts, places, strict=True):
        if place is not None:
            session = "/".join(names[place + skipped : place + 2]) if len(names) > place + 2 else ""
            rows.append([path, composed(names[place]), composed(session)])
    header = ["path", "speaker", "session"]
    if table is not None:
        header, rows = table.joined(header, rows, data)
    builder = ManifestBuilder(header, find_columns(header, str(data)), lambda row: f"{data}: {rows[row][0]}")
    builder.add(list(zip(*rows, strict=True)))
    return Manifest(**builder.build(str(data), data, data.absolute()), passed_over=dict(passed_over))
