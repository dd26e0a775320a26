"""SpeakerEncoder: recordings in, embeddings out. It reads a system directory, features and weights together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from xvectors import audio
from xvectors.config import Recipe
from xvectors.corpus import Manifest
from xvectors.decisions import Decision, decide
from xvectors.devices import find_device
from xvectors.errors import AudioError, ConfigError, MissingExtraError, TooShortError
from xvectors.features import Fbank
from xvectors.files import atomic_write
from xvectors.models import Backbone, EmbeddingMap
from xvectors.progress import progress
from xvectors.system import (
    STARTER,
    SystemFolder,
    find_system,
    load_weights,
    make_features,
    make_model,
    read_description,
)
from xvectors.verification import Verifier, cosine_verifier, verifier_of

Recording = str | PathLike[str] | NDArray[np.floating] | torch.Tensor

ReadFunction = Callable[[int], NDArray[np.float32]]

READ_AHEAD = 64
"""Recordings decoded before they are sorted by length into batches."""
MOST_SAMPLES_A_BATCH = 5_000_000
"""Five minutes at 16 kHz: about half a gigabyte in the default network. A longer recording is a batch of its own."""
READERS = 2
"""Threads that decode; soundfile and soxr let go of the interpreter while they work."""


@dataclass(frozen=True)
class Embedded:
    """Embeddings of the recordings that could be embedded.

    `embeddings` float32 [n, dim], `rows` int64 [n] (which recordings, ascending); `failures`: (recording, reason).
    """

    embeddings: NDArray[np.float32]
    rows: NDArray[np.int64]
    failures: list[tuple[int, str]]


class SpeakerEncoder:
    """A trained network with its features, ready to embed recordings.

    >>> encoder = SpeakerEncoder.load("exp/xv")                                # doctest: +SKIP
    >>> encoder.encode(["a.wav", "b.wav"]).shape                               # doctest: +SKIP
    (2, 512)
    """

    def __init__(
        self,
        model: Backbone,
        fbank: Fbank,
        recipe: Recipe,
        speakers: Sequence[str],
        device: torch.device,
        embedding_map: EmbeddingMap | None = None,
        folder: SystemFolder | None = None,
    ) -> None:
        self.folder = folder
        self.model = model.to(device).eval()
        self.embedding_map = None if embedding_map is None else embedding_map.to(device)
        self.fbank = fbank.to(device)
        self.recipe = recipe
        self.speakers = tuple(speakers)
        self.device = device

    @classmethod
    def load(cls, folder: str | PathLike[str], *, device: str = "auto") -> SpeakerEncoder:
        """Read a system directory, or the `starter` system that comes with the package.

        Raises CheckpointError where it is damaged or missing, ConfigError for a device.
        """
        paths = find_system(Path(folder))
        description = read_description(paths)
        model = make_model(description.recipe, len(description.speakers))
        embedding_map = load_weights(paths, model)
        return cls(
            model,
            make_features(description.recipe),
            description.recipe,
            description.speakers,
            find_device(device),
            embedding_map,
            paths,
        )

    @classmethod
    def from_pretrained(cls, name: str | PathLike[str] = STARTER, *, device: str = "auto") -> SpeakerEncoder:
        """The starter system that comes with the package (see its model card), or a system directory by its path."""
        return cls.load(name, device=device)

    @property
    def sample_rate_hz(self) -> int:
        return self.recipe.features.sample_rate_hz

    @property
    def embedding_dim(self) -> int:
        return self.model.embedding_dim

    def encode(
        self,
        recordings: Sequence[Recording] | Recording,
        *,
        sample_rate_hz: int | None = None,
        batch_size: int = 32,
        show_progress: bool = False,
    ) -> NDArray[np.float32]:
        """Embed whole recordings; the result does not depend on the batch size or the order (within 1e-4).

        Parameters
        ----------
        recordings
            Paths, or mono waveforms [samples] in [-1, 1]; a single one counts as a list of one.
        sample_rate_hz
            Of the waveforms, where it is not the system's; they are resampled. Files say their own.

        Returns
        -------
        float32 [recordings, embedding_dim], in the order given.

        Raises
        ------
        AudioError
            Names the first recording that cannot be read, holds NaN, or is shorter than the network's context.
        """
        if isinstance(recordings, str | PathLike | np.ndarray | torch.Tensor):
            recordings = [recordings]

        def read(index: int) -> NDArray[np.float32]:
            return self._checked(*self._open(recordings[index], index, sample_rate_hz))

        def name(index: int) -> str:
            recording = recordings[index]
            return str(recording) if isinstance(recording, str | PathLike) else f"recording {index}"

        embedded = self._encode(len(recordings), read, name, batch_size, show_progress, stop_at_failure=True)
        return embedded.embeddings

    @cached_property
    def verifier(self) -> Verifier:
        """The system's back-end and calibration; the cosine where it has none. Raises CheckpointError for damage."""
        return cosine_verifier() if self.folder is None else verifier_of(self.folder)

    def verify(
        self, first: Recording, second: Recording, *, p_target: float | None = None, sample_rate_hz: int | None = None
    ) -> Decision:
        """Whether two recordings are of one speaker: a `Decision`, whose `answer` is also "cannot tell".

        `p_target`: the probability of one speaker before the recordings were heard, by default the calibration's;
        `sample_rate_hz`: of waveforms, where it is not the system's. Raises AudioError for a recording that cannot be
        read, CheckpointError for a damaged calibration, ConfigError for a `p_target` outside (0, 1).
        """
        channel = self.recipe.data.channel
        return decide(
            first,
            second,
            encode=self.encode,
            verifier=self.verifier,
            sample_rate_hz=self.sample_rate_hz,
            channel="mix" if channel < 0 else channel,
            waveform_rate_hz=sample_rate_hz,
            p_target=p_target,
        )

    def encode_manifest(self, manifest: Manifest, *, batch_size: int = 32, show_progress: bool = False) -> Embedded:
        """Embed every row; recordings that cannot be used are listed, not fatal."""
        channel = self.recipe.data.channel
        # as in the scan: without starts, a stated duration is a fact about the file, not a segment of it
        has_segments = bool((manifest.start_s != 0).any())

        def read(row: int) -> NDArray[np.float32]:
            duration_s = float(manifest.duration_s[row]) if has_segments else np.nan
            path = manifest.full_path(row)
            samples, _ = audio.read(
                path,
                sample_rate_hz=self.sample_rate_hz,
                start_s=float(manifest.start_s[row]),
                duration_s=None if np.isnan(duration_s) else duration_s,
                channel="mix" if channel < 0 else channel,
            )
            return self._checked(samples, str(path))

        def name(row: int) -> str:
            return str(manifest.full_path(row))

        return self._encode(len(manifest), read, name, batch_size, show_progress, stop_at_failure=False)

    def _open(self, recording: Recording, index: int, rate: int | None) -> tuple[NDArray[np.float32], str]:
        if isinstance(recording, str | PathLike):
            channel = self.recipe.data.channel
            samples, _ = audio.read(
                recording, sample_rate_hz=self.sample_rate_hz, channel="mix" if channel < 0 else channel
            )
            return samples, str(recording)
        array = recording.detach().cpu().numpy() if isinstance(recording, torch.Tensor) else np.asarray(recording)
        name = f"recording {index}"
        if array.ndim != 1 or not np.issubdtype(array.dtype, np.floating):
            raise AudioError(
                f"{name}: a waveform must be one-dimensional floats in [-1, 1], not {array.dtype} {list(array.shape)}"
            )
        samples = array.astype(np.float32, copy=False)
        if rate is not None and rate != self.sample_rate_hz:
            samples = audio.resample(samples, rate, self.sample_rate_hz)
        return samples, name

    def _checked(self, samples: NDArray[np.float32], name: str) -> NDArray[np.float32]:
        needed = self.fbank.samples_for(self.model.context_frames)
        if len(samples) < needed:
            rate = self.sample_rate_hz
            raise TooShortError(
                f"{name}: {len(samples) / rate:.3f} s of audio are less than the {needed / rate:.3f} s that the "
                f"network looks at around every frame; give more"
            )
        if not np.isfinite(samples.sum(dtype=np.float64)):
            raise AudioError(f"{name}: samples that are NaN or infinite; convert it again")
        if not samples.any():
            raise AudioError(f"{name}: only zeros; there is no voice in it")
        return samples

    def _encode(
        self,
        count: int,
        read: ReadFunction,
        name: Callable[[int], str],
        batch_size: int,
        show_progress: bool,
        *,
        stop_at_failure: bool,
    ) -> Embedded:
        if batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, not {batch_size}")
        embeddings = np.zeros((count, self.embedding_dim), dtype=np.float32)
        failures: dict[int, str] = {}
        with (
            progress("embedding", count, enabled=show_progress) as shown,
            ThreadPoolExecutor(READERS) as readers,
        ):

            def attempt(index: int) -> NDArray[np.float32] | AudioError | MissingExtraError:
                try:
                    return read(index)
                except (AudioError, MissingExtraError) as error:
                    return error

            waiting = iter(range(count))
            while indices := list(islice(waiting, max(READ_AHEAD, batch_size))):
                waveforms = {}
                for index, result in zip(indices, readers.map(attempt, indices), strict=True):
                    if isinstance(result, AudioError | MissingExtraError):
                        if stop_at_failure:
                            raise result
                        failures[index] = str(result)
                    else:
                        waveforms[index] = result
                by_length = sorted(waveforms, key=lambda index: len(waveforms[index]))
                for members in _batches(by_length, [len(waveforms[index]) for index in by_length], batch_size):
                    embeddings[members] = self._embed([waveforms[index] for index in members])
                    for index in members:
                        if not np.isfinite(embeddings[index]).all():
                            failures[index] = f"{name(index)}: its embedding is not finite; are the samples sound?"
                            if stop_at_failure:
                                raise AudioError(failures[index])
                shown.advance(len(indices))
        rows = np.array([index for index in range(count) if index not in failures], dtype=np.int64)
        return Embedded(embeddings[rows], rows, sorted(failures.items()))

    @torch.inference_mode()
    def _embed(self, waveforms: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        lengths = torch.tensor([len(waveform) for waveform in waveforms])
        padded = torch.zeros(len(waveforms), int(lengths.max()))
        for row, waveform in zip(padded, waveforms, strict=True):
            row[: len(waveform)] = torch.from_numpy(np.ascontiguousarray(waveform))
        features = self.fbank(padded.to(self.device), lengths.to(self.device))
        frames = self.fbank.num_frames(lengths).to(self.device)
        embedding = self.model(features, lengths=frames, return_embedding=True)
        if self.embedding_map is not None:
            embedding = self.embedding_map(embedding)
        result: NDArray[np.float32] = embedding.float().cpu().numpy()
        return result


def _batches(indices: list[int], lengths: list[int], batch_size: int) -> Iterator[list[int]]:
    """`indices`, ascending in length, in batches that neither number nor padded length makes too large."""
    batch: list[int] = []
    for index, length in zip(indices, lengths, strict=True):
        if batch and (len(batch) == batch_size or (len(batch) + 1) * length > MOST_SAMPLES_A_BATCH):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def save_embeddings(path: Path, manifest: Manifest, embedded: Embedded) -> None:
    """Write one npz: embeddings float32 [n, dim] and, row by row, id, path, speaker, gender, age and duration_s."""
    rows = embedded.rows.tolist()
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            embeddings=embedded.embeddings,
            id=np.array([manifest.id[row] for row in rows], dtype=np.str_),
            path=np.array([str(manifest.full_path(row)) for row in rows], dtype=np.str_),
            speaker=np.array([manifest.speakers[manifest.speaker_index[row]] for row in rows], dtype=np.str_),
            gender=manifest.gender[rows],
            age=manifest.age[rows],
            duration_s=manifest.duration_s[rows],
        )
