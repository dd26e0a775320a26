"""Distillation: targets from a teacher's embeddings, computed once before the first epoch.

The student hears augmented chunks and learns the teacher's embedding of the clean whole recording.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from xvectors import audio
from xvectors.audio import Samples
from xvectors.config import Recipe
from xvectors.devices import choose_precision
from xvectors.encoder import SpeakerEncoder
from xvectors.errors import AudioError, CheckpointError, ConfigError, MissingExtraError, TrainingError
from xvectors.files import atomic_write
from xvectors.files.npz import read_npz
from xvectors.progress import progress_bar
from xvectors.system import SystemFolder, find_system
from xvectors.system.serialization import ONNX, make_model, read_description
from xvectors.training.data.copies import ORIGINAL, Copies, Targets
from xvectors.training.data.corpus import PreparedCorpus

logger = logging.getLogger(__name__)

BLOCK = 64
"""Number of recordings and copies that are embedded, and saved, at once."""
BATCH = 8


def prepare_targets(
    folder: SystemFolder,
    corpus: PreparedCorpus,
    recipe: Recipe,
    device: torch.device,
    *,
    resuming: bool = False,
    progress: bool = False,
) -> Targets:
    """Make the copies of the training recordings and embed them with the teacher, or continue where that stopped.

    Everything is kept in `distillation/` below the system directory. It is used again for the same recordings, settings
    and teacher; a run that is `resuming` needs the teacher no more.

    Raises
    ------
    ConfigError
        The teacher is no system, or its embeddings have fewer dimensions than the student's.
    TrainingError
        The teacher can embed none of the recordings.
    StorageError
        The copies cannot be written.
    """
    settings, seed = recipe.distillation, recipe.training.seed
    place = folder.distillation
    copies = Copies.plan(corpus.manifest, corpus.train_rows, place / "copies", settings, seed)
    key = _key(corpus, recipe) + "/"
    teacher = None
    if not resuming:
        teacher = load_teacher(recipe, device)
        key += teacher.fingerprint
    embeddings, duration_s = _kept(place / "targets.npz", key)
    if embeddings is None or duration_s is None:
        if teacher is None:
            teacher = load_teacher(recipe, device)
            key += teacher.fingerprint
        embeddings, duration_s = _embed_in_blocks(teacher, copies, corpus, recipe, place, key, progress=progress)
        _save(place / "targets.npz", key, embeddings, duration_s)
        for block in place.glob("block-*.npz"):
            block.unlink()
    return _targets(embeddings, duration_s, copies, corpus, _student_dim(recipe, embeddings.shape[1]))


def load_teacher(recipe: Recipe, device: torch.device) -> SpeakerEncoder:
    """Load the teacher of a recipe. Raises ConfigError, with the remedy, if it cannot be used."""
    name = recipe.distillation.teacher
    try:
        found = find_system(name)
        # a network from an .onnx file has a precision of its own
        has_precision = read_description(found).recipe.model.name != ONNX
        fast = has_precision and choose_precision(recipe.training.precision, device) == torch.bfloat16
        precision = "bfloat16" if fast else "float32"
        teacher = SpeakerEncoder.from_pretrained(found.path, device=str(device), precision=precision)
    except CheckpointError as error:
        raise ConfigError(f"distillation.teacher = {name!r} cannot be used: {error}") from error
    _student_dim(recipe, teacher.embedding_dim)
    return teacher


def _student_dim(recipe: Recipe, teacher_dim: int) -> int:
    with torch.device("meta"):
        dim = make_model(recipe, 2).embedding_dim
    if dim > teacher_dim:
        raise ConfigError(
            f"model.embedding_dim = {dim} is more than the {teacher_dim} of distillation.teacher = "
            f"{recipe.distillation.teacher!r}; set model.embedding_dim to {teacher_dim} or less"
        )
    return dim


def _key(corpus: PreparedCorpus, recipe: Recipe) -> str:
    """Identify what the targets were made from."""
    manifest, settings = corpus.manifest, recipe.distillation
    facts = [settings.teacher, settings.voices, settings.moods, settings.recordings_per_copy, recipe.training.seed]
    sha = hashlib.sha256(json.dumps([*facts, recipe.features.sample_rate_hz, recipe.data.channel]).encode())
    for row in corpus.train_rows.tolist():
        speaker = manifest.speakers[manifest.speaker_index[row]]
        sha.update(f"{row}\0{manifest.full_path(row)}\0{manifest.start_s[row]}\0{speaker}\n".encode())
    return sha.hexdigest()


def _kept(path: Path, key: str) -> tuple[NDArray[np.float32] | None, NDArray[np.float32] | None]:
    """Return embeddings and durations from a file if its key begins with `key`: it was made from the same things."""
    if not path.is_file():
        return None, None
    try:
        arrays = read_npz(path)
        if str(arrays["key"]).startswith(key):
            return arrays["embeddings"], arrays["duration_s"]
    except (CheckpointError, OSError, KeyError, ValueError) as error:
        logger.warning("%s cannot be used and is made again: %s", path, error)
    return None, None


def _save(path: Path, key: str, embeddings: NDArray[np.float32], duration_s: NDArray[np.float32]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez(file, key=np.array(key), embeddings=embeddings, duration_s=duration_s)


def _embed_in_blocks(
    teacher: SpeakerEncoder,
    copies: Copies,
    corpus: PreparedCorpus,
    recipe: Recipe,
    place: Path,
    key: str,
    *,
    progress: bool,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Make and embed all planned copies: float32 [copies, teacher's dim], NaN where that failed, and seconds."""
    jobs = np.argwhere(copies.planned)
    blocks = [jobs[first : first + BLOCK] for first in range(0, len(jobs), BLOCK)]
    embeddings, duration_s = [], []
    with progress_bar("teacher's embeddings", len(jobs), enabled=progress) as bar:
        for number, block in enumerate(blocks):
            path = place / f"block-{number:06d}.npz"
            vectors, seconds = _kept(path, key)
            if vectors is None or seconds is None:
                vectors, seconds = _embed_block(teacher, copies, corpus, recipe, block)
                _save(path, key, vectors, seconds)
            embeddings.append(vectors)
            duration_s.append(seconds)
            bar.advance(len(block))
    return np.concatenate(embeddings), np.concatenate(duration_s)


def _embed_block(
    teacher: SpeakerEncoder, copies: Copies, corpus: PreparedCorpus, recipe: Recipe, block: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rate = recipe.features.sample_rate_hz
    vectors = np.full((len(block), teacher.embedding_dim), np.nan, dtype=np.float32)
    seconds = np.zeros(len(block), dtype=np.float32)
    waveforms: dict[int, Samples] = {}
    for number, (row, waveform) in enumerate(_read(corpus, recipe, block)):
        column = int(block[number, 1])
        if waveform is None:
            continue
        if column != ORIGINAL:
            waveform = copies.make(waveform, rate, row, column)
            path = copies.path(row, column)
            path.parent.mkdir(parents=True, exist_ok=True)
            audio.write(path, waveform, rate)
        seconds[number] = len(waveform) / rate
        if not copies.is_mood(column):
            waveforms[number] = waveform
    for number, vector in _embed(teacher, waveforms, rate):
        vectors[number] = vector
    return vectors, seconds


def _read(corpus: PreparedCorpus, recipe: Recipe, block: NDArray[np.int64]) -> Iterator[tuple[int, Samples | None]]:
    """Yield row and waveform of each pair of row and column; None for one that cannot be read."""
    manifest, channel = corpus.manifest, recipe.data.channel
    before, waveform = -1, None
    for row in block[:, 0].tolist():
        if row != before:
            duration_s = float(manifest.duration_s[row])
            try:
                waveform, _ = audio.read(
                    manifest.full_path(row),
                    sample_rate_hz=recipe.features.sample_rate_hz,
                    start_s=float(manifest.start_s[row]),
                    duration_s=None if np.isnan(duration_s) else duration_s,
                    channel="mix" if channel < 0 else channel,
                )
            except (AudioError, MissingExtraError) as error:
                logger.warning("no target: %s", error)
                waveform = None
            before = row
        yield row, waveform


def _embed(
    teacher: SpeakerEncoder, waveforms: dict[int, Samples], rate_hz: int
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    numbers = list(waveforms)
    if not numbers:
        return
    try:
        yield from zip(
            numbers, teacher.encode(list(waveforms.values()), sample_rate_hz=rate_hz, batch_size=BATCH), strict=True
        )
    except AudioError:  # one of them is too short for the teacher
        for number in numbers:
            try:
                yield number, teacher.encode(waveforms[number], sample_rate_hz=rate_hz)[0]
            except AudioError as error:
                logger.warning("no target for a copy: %s", error)


def _targets(
    embeddings: NDArray[np.float32],
    duration_s: NDArray[np.float32],
    copies: Copies,
    corpus: PreparedCorpus,
    dim: int,
) -> Targets:
    rows, columns = np.nonzero(copies.planned)
    known = np.isfinite(embeddings).all(axis=1)
    if not known.any():
        raise TrainingError("the teacher could embed none of the training recordings; check them and the teacher")
    classes = corpus.manifest.speaker_index[rows].astype(np.int64) * copies.planned.shape[1] + columns
    vectors = place_targets(embeddings[known], classes[known], dim)
    index = np.full(copies.planned.shape, -1, dtype=np.int32)
    index[rows[known], columns[known]] = np.arange(len(vectors))
    for column in range(copies.settings.voices + 1, copies.planned.shape[1]):
        index[:, column] = np.where(copies.planned[:, column], index[:, ORIGINAL], -1)
    seconds = np.zeros(index.shape, dtype=np.float32)
    seconds[rows, columns] = duration_s
    index[seconds <= 0] = -1
    return Targets(vectors, index, seconds, copies)


def place_targets(embeddings: NDArray[np.float32], classes: NDArray[np.int64], dim: int) -> NDArray[np.float32]:
    """Center the teacher's embeddings, scale them to length 1, and keep `dim` principal directions.

    Each class weighs the same in the mean and in the directions, however many recordings it has.

    Parameters
    ----------
    embeddings
        [n, teacher's dim].
    classes
        int64 [n]: the speaker, in which voice.
    dim
        Number of dimensions of the targets, at most the teacher's.

    Returns
    -------
    float32 [n, dim], each row of length 1.
    """
    _, index, counts = np.unique(classes, return_inverse=True, return_counts=True)
    weights = (1.0 / counts)[index] / len(counts)
    centered = embeddings.astype(np.float64) - weights @ embeddings
    directions = _unit(centered)
    if dim < embeddings.shape[1]:
        _, axes = np.linalg.eigh((directions * weights[:, None]).T @ directions)
        directions = _unit(directions @ axes[:, ::-1][:, :dim])
    return directions.astype(np.float32)


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    unit: NDArray[np.float64] = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    return unit
