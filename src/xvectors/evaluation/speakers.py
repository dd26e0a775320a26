"""Find out who speaks in the recordings of a trial list, from a file or from the target trials."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xvectors.corpus.columns import ALIASES, find_columns
from xvectors.embeddings import are_embeddings, load_embeddings
from xvectors.errors import ManifestError
from xvectors.files.tables import DELIMITERS, Table
from xvectors.text import agree, count, first_few
from xvectors.trials import RecordingRows, TrialList
from xvectors.trials.pairs import speaker_numbers
from xvectors.trials.text import text_lines

GUESSED = (
    "for the intervals, names that target trials join count as one speaker, and any other name as a speaker of its "
    "own; state the speakers with --speakers FILE"
)


def speakers_of(trials: TrialList, path: str | Path | None) -> NDArray[np.int32]:
    """Number the speakers of the names in a trial list, [names].

    Parameters
    ----------
    path
        Embeddings that `xvectors embed` or `evaluate` wrote, a table with the columns id (or path) and speaker, or
        text with lines `recording speaker` (Kaldi's utt2spk). Names match with or without the suffix of an audio
        file; models are names, too. With None, names that target trials join are one speaker (`TrialList.speakers`).

    Raises
    ------
    ManifestError
        A file that cannot be read or lacks names of the trials; labels that contradict it or, with None, each other.
    CheckpointError
        Missing or damaged embeddings.
    """
    if path is None:
        return trials.speakers()
    names, speakers = _read(Path(path))
    if not names:
        raise ManifestError(f"{path}: is empty; it tells who speaks in lines: recording speaker")
    rows = RecordingRows(names).rows(trials.names)
    used = np.unique(np.concatenate([trials.enroll, trials.test]))
    missing = [trials.names[at] for at in used if rows[at] < 0]
    if missing:
        raise ManifestError(
            f"{path}: {count(len(missing), 'name')} of {trials.source} {agree(len(missing), 'has', 'have')} "
            f"no speaker: {first_few(missing)}; add them"
        )
    found = speaker_numbers(np.array(speakers, dtype=np.str_))[rows]
    wrong = np.flatnonzero((found[trials.enroll] == found[trials.test]) != trials.target)
    if len(wrong):
        first = f"{trials.names[trials.enroll[wrong[0]]]} {trials.names[trials.test[wrong[0]]]}"
        raise ManifestError(
            f"{trials.source}: {count(len(wrong), 'trial')} "
            f"{agree(len(wrong), 'contradicts', 'contradict')} the speakers of {path}, such as {first}; "
            "correct one of them"
        )
    return found


def _read(path: Path) -> tuple[list[str], list[str]]:
    if are_embeddings(path):
        arrays = load_embeddings(path, "id", "speaker")
        return arrays["id"].tolist(), arrays["speaker"].tolist()
    first = next((line for line in text_lines(path) if line.strip()), "")
    header = {cell.strip().strip('"').lower() for cell in first.split(max(DELIMITERS, key=first.count))}
    if len(header) > 1 and header & set(ALIASES["speaker"]):
        table = Table(path)
        columns = find_columns(table.header, str(path), required=("speaker",)).known
        key = next((columns[name] for name in ("id", "path") if name in columns), None)
        if key is None:
            raise ManifestError(f"{path}: the header must name a column id or path beside speaker")
        rows = [(row[key].strip(), row[columns["speaker"]].strip()) for block in table.blocks() for row in block]
        return [name for name, _ in rows], [speaker for _, speaker in rows]
    names, speakers = [], []
    for number, line in enumerate(text_lines(path), start=1):
        cells = line.split()
        if not cells:
            continue
        if len(cells) != 2:
            raise ManifestError(f"{path}: line {number} has {len(cells)} fields; write: recording speaker")
        names.append(cells[0])
        speakers.append(cells[1])
    return names, speakers
