"""Embeddings of any network with the speakers of a table, and back-ends that are learned from them, without a network.

The directory that `calibrate_embeddings` writes holds backend.npz and calibration.toml alone.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xvectors.backends import make_backend
from xvectors.corpus import Manifest
from xvectors.corpus.columns import find_columns
from xvectors.corpus.json_lines import open_table
from xvectors.embeddings import load_embeddings
from xvectors.errors import CheckpointError, ManifestError
from xvectors.files import exclusive
from xvectors.metrics import bayes_threshold
from xvectors.system import SystemFolder
from xvectors.text import agree, composed, count, first_few, short_repr
from xvectors.trials import RecordingRows
from xvectors.verification import Basis, Verifier, save_verifier, verifier_of
from xvectors.verification.own_speakers import learn_from_own
from xvectors.verification.verifier import MIN_HEARD_S, OF_EMBEDDINGS, P_TARGET, is_back_end_alone

logger = logging.getLogger(__name__)

MAX_UNUSABLE = 0.1
"""Largest share of embeddings with NaN, infinity or zeros only; more mean that the file is wrong."""
MIN_TO_TEST = 60
"""Speakers with two recordings from which on a fifth is kept apart for testing."""
TEST_SHARE = 0.2
PLAIN: Sequence[str] = ("speaker", "path", "age")
COLUMNS = ("id", "path", "gender", "age", "session", "duration_s")


@short_repr()
@dataclass(frozen=True, kw_only=True, eq=False)
class LabeledEmbeddings:
    """Embeddings and what is known of their recordings.

    Attributes
    ----------
    embeddings : float32 [n, D], all finite and none of them zero
    manifest : the n recordings; where no paths are known, ids stand for them
    seconds : float64 [n] of speech, or of the recording where that is unknown; NaN where neither is known
    condition : float32 [n, 6], the measures of `audio.condition`; None where the file has none
    """

    embeddings: NDArray[np.float32]
    manifest: Manifest
    seconds: NDArray[np.float64]
    condition: NDArray[np.float32] | None = None

    @property
    def durations_known(self) -> bool:
        return not bool(np.isnan(self.seconds).any())

    def take(self, rows: NDArray[Any]) -> LabeledEmbeddings:
        """Return these rows, a mask or numbers."""
        return replace(
            self,
            embeddings=self.embeddings[rows],
            manifest=self.manifest.take(rows),
            seconds=self.seconds[rows],
            condition=None if self.condition is None else self.condition[rows],
        )


def read_labeled(embeddings: str | Path, labels: str | Path | None = None) -> LabeledEmbeddings:
    """Read embeddings and their speakers; rows without a label or a usable vector are left out, with a warning.

    Parameters
    ----------
    embeddings
        A file of `load_embeddings`.
    labels
        A table with a header: id or path, speaker, and perhaps gender, age, session and duration_s. By default the
        speakers that the file of embeddings names.

    Raises
    ------
    CheckpointError
        A file of embeddings that cannot be read, has no ids, or has many unusable rows.
    ManifestError
        A table that cannot be read, that names a recording twice, or that fits no embedding.
    """
    source = Path(embeddings)
    optional = ["speaker", "path", "gender", "age", "duration_s", "speech_s", "condition"]
    arrays = load_embeddings(source, "id", optional=optional)
    vectors, ids = arrays["embeddings"], [composed(str(name)) for name in arrays["id"].tolist()]
    if len(set(ids)) < len(ids):
        twice = Counter(ids).most_common(1)[0][0]
        raise CheckpointError(f"{source}: two embeddings are named {twice!r}; give each recording a name of its own")
    usable = _usable(source, vectors, ids)
    cells: dict[str, list[str]]
    if labels is None:
        if "speaker" not in arrays:
            raise CheckpointError(f"{source}: names no speakers; give a table of them with --labels")
        cells = {key: list(map(str, arrays[key].tolist())) for key in PLAIN if key in arrays}
        if "gender" in arrays:
            cells["gender"] = ["" if value < 0 else str(value) for value in arrays["gender"].tolist()]
        labeled = np.arange(len(ids))
    else:
        cells, at = _matched(Path(labels), source, ids)
        labeled = np.flatnonzero(at >= 0)
        cells = {key: [column[row] for row in at[labeled].tolist()] for key, column in cells.items()}
    kept = usable[labeled]
    rows = labeled[kept]
    if not len(rows):
        raise ManifestError(f"{source}: no embedding is left that is usable and has a label")
    cells = {
        key: [cell for cell, keep in zip(column, kept.tolist(), strict=True) if keep] for key, column in cells.items()
    }
    cells["id"] = [ids[row] for row in rows.tolist()]
    cells.setdefault("path", cells["id"])
    manifest = Manifest.from_rows(dict(zip(cells, values, strict=True)) for values in zip(*cells.values(), strict=True))
    stated = next((arrays[key] for key in ("speech_s", "duration_s") if key in arrays), None)
    seconds = manifest.duration_s if stated is None else stated[rows].astype(np.float64)
    return LabeledEmbeddings(
        embeddings=vectors[rows],
        manifest=manifest,
        seconds=np.maximum(seconds, MIN_HEARD_S),
        condition=arrays["condition"][rows] if "condition" in arrays else None,
    )


def _usable(source: Path, vectors: NDArray[np.float32], ids: Sequence[str]) -> NDArray[np.bool_]:
    """Return which rows are finite and not zero."""
    if not len(vectors):
        raise CheckpointError(f"{source}: holds no embeddings")
    finite = np.asarray(np.isfinite(vectors).all(axis=1), dtype=np.bool_)
    zero = np.asarray(finite & np.equal(vectors, 0).all(axis=1), dtype=np.bool_)
    for rows, what in ((~finite, "hold NaN or infinity"), (zero, "are zero in all dimensions")):
        number = int(np.count_nonzero(rows))
        if not number:
            continue
        named = first_few([ids[row] for row in np.flatnonzero(rows).tolist()])
        sentence = f"{source}: {number:,} of {count(len(ids), 'embedding')} {what} ({named})"
        if number > MAX_UNUSABLE * len(ids):
            raise CheckpointError(f"{sentence}; something is wrong with the program that wrote them, embed again")
        logger.warning("%s; left out", sentence)
    return np.asarray(finite & ~zero)


def _matched(labels: Path, source: Path, ids: Sequence[str]) -> tuple[dict[str, list[str]], NDArray[np.int32]]:
    """Return the columns of the table, and for each embedding its row there, or -1."""
    table = open_table(labels)
    columns = find_columns(table.header, str(labels), required=("speaker",)).known
    if not {"id", "path"} & set(columns):
        raise ManifestError(f"{labels}: no column names the recordings; call one id, with the ids of {source.name}")
    cells: dict[str, list[str]] = {name: [] for name in ("speaker", *COLUMNS) if name in columns}
    for block in table.columns():
        for name, column in cells.items():
            column.extend(str(cell).strip() for cell in block[columns[name]])
    candidates = [RecordingRows(cells[name]).rows(ids) for name in ("id", "path") if name in cells]
    at = max(candidates, key=lambda rows: int(np.count_nonzero(rows >= 0)))
    without = [name for name, row in zip(ids, at.tolist(), strict=True) if row < 0]
    if len(without) == len(ids):
        names = cells.get("id", cells.get("path", []))
        raise ManifestError(
            f"{labels}: names none of the {len(ids):,} embeddings; {source.name} calls them {first_few(ids, 2)}, the "
            f"table {first_few(names, 2)}"
        )
    if without:
        logger.warning(
            "%s: %s %s no label in %s (%s); left out",
            source,
            count(len(without), "embedding"),
            agree(len(without), "has", "have"),
            labels,
            first_few(without),
        )
    if unused := len(cells["speaker"]) - (len(ids) - len(without)):
        logger.warning("%s: %s %s no embedding", labels, count(unused, "row"), agree(unused, "has", "have"))
    return cells, at


def calibrate_embeddings(
    embeddings: str | Path,
    labels: str | Path | None,
    output: str | Path,
    *,
    backend: str | None = None,
    p_target: float = P_TARGET,
    seed: int = 0,
) -> Verifier:
    """Learn back-end and calibration from embeddings, and write backend.npz and calibration.toml to `output`.

    Of 60 speakers or more, a fifth is kept apart, on whom `evaluate --embeddings` measures by default. Half of the
    others fit back-ends, and the rest selects and calibrates one; see `learn_from_own`.

    Raises
    ------
    CheckpointError
        `output` holds a system, or the embeddings cannot be read.
    ManifestError, ShapeError
        Labels that cannot be read, too few speakers, embeddings that do not separate them.
    ConfigError
        An unknown `backend`, a prior outside (0, 1).
    """
    folder = SystemFolder(Path(output))
    if folder.description.is_file():
        raise CheckpointError(
            f"{folder.path} holds a system, whose calibration belongs to its network; give another directory"
        )
    if backend is not None:
        make_backend(backend)
    bayes_threshold(p_target)
    data = read_labeled(embeddings, labels)
    names, counts = np.unique(data.manifest.speaker_index, return_counts=True)
    repeated = names[counts >= 2]
    test = repeated[:0]
    if len(repeated) >= MIN_TO_TEST:
        test = np.random.default_rng([seed, 1]).permutation(repeated)[: round(TEST_SHARE * len(repeated))]
    used = data.take(~np.isin(data.manifest.speaker_index, test))
    verifier = learn_from_own(_basis(used), backend_name=backend, p_target=p_target, seed=seed)
    facts = {
        **verifier.basis,
        "source": Path(embeddings).name,
        "held_out": True,
        "durations_known": used.durations_known,
        "test_speakers": [data.manifest.speakers[at] for at in sorted(test.tolist())],
    }
    verifier = replace(verifier, basis=facts)
    folder.path.mkdir(parents=True, exist_ok=True)
    with exclusive(folder.lock, of=str(folder.path)):
        save_verifier(verifier, backend=folder.backend, calibration=folder.calibration, fingerprint=OF_EMBEDDINGS)
    return verifier


def _basis(data: LabeledEmbeddings) -> Basis:
    number = len(data.embeddings)
    return Basis(
        embeddings=data.embeddings,
        speakers=np.array(data.manifest.speakers, dtype=np.str_)[data.manifest.speaker_index],
        recording=np.arange(number),
        # one value for all where some are unknown, so that LLRs do not depend on it
        duration_s=data.seconds if data.durations_known else np.ones(number),
        whole=np.ones(number, dtype=bool),
        condition=data.condition,
    )


def load_back_end(folder: str | Path) -> Verifier:
    """Load the verifier of a system, or of a directory that `calibrate_embeddings` wrote.

    Raises CheckpointError where there is none, or it is damaged or of another system.
    """
    paths = SystemFolder(Path(folder))
    if not is_back_end_alone(paths):
        from xvectors.system import find_system
        from xvectors.system.serialization import read_description

        paths = find_system(folder)
        read_description(paths)
    return verifier_of(paths)
