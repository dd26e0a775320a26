"""Exported systems without torch. In: an .onnx file as `xvectors export` writes it, recordings. Out: embeddings.

The features are in the graph: a waveform goes in. What the file says of itself stands in its metadata, every key under
the prefix `xvectors.`; docs/export.md lists the keys.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby, islice
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from xvectors import audio
from xvectors.errors import AudioError, CheckpointError, ConfigError, MissingExtraError, TooShortError, XVectorsError
from xvectors.progress import progress
from xvectors.scoring import AffineCalibration
from xvectors.scoring.backends import load_backend
from xvectors.verification import Verifier, cosine_verifier

FORMAT_VERSION = 1
PREFIX = "xvectors."
SUFFIX = ".onnx"
FLOAT32, INT8 = "float32", "int8"
READ_AHEAD = 64
"""Recordings decoded, two at a time, while those before them are embedded."""
READERS = 2
MOST_SAMPLES_A_BATCH = 5_000_000
"""Five minutes at 16 kHz; a longer recording is a batch of its own."""


class _Tensor(Protocol):
    """A torch tensor, as far as it matters here."""

    def detach(self) -> Any: ...


Recording = str | PathLike[str] | bytes | NDArray[np.floating] | _Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class OnnxDescription:
    """What an exported file says of itself.

    Attributes
    ----------
    sample_rate_hz, embedding_dim
    min_samples : of the shortest recording that has an embedding
    channel : of recordings with several, -1 for their mean
    fingerprint : sha256 of the system's model.safetensors; embeddings of different fingerprints are not to be compared
    precision : "float32" or "int8"
    recipe : its name
    versions : of what trained the system and of what exported it
    verifier : back-end and calibration; plain cosines where the system had none
    """

    sample_rate_hz: int
    embedding_dim: int
    min_samples: int
    channel: int
    fingerprint: str
    precision: str
    recipe: str
    versions: Mapping[str, str]
    verifier: Verifier

    def to_metadata(self, backend_file: bytes | None) -> dict[str, str]:
        """The metadata of the file; `backend_file` holds the bytes of backend.npz where the system is calibrated.

        The names of the speakers that the calibration was learnt from stay behind.
        """
        values = {
            "format_version": FORMAT_VERSION,
            **{key: getattr(self, key) for key in _NUMBERS + _TEXTS},
            "versions": dict(self.versions),
        }
        if backend_file is not None:
            table = self.verifier.table()
            basis = {key: value for key, value in table["basis"].items() if key != "speakers"}
            values["verifier"] = {**table, "basis": basis}
            values["backend"] = base64.b64encode(backend_file).decode("ascii")
        return {
            PREFIX + key: value if isinstance(value, str) else json.dumps(_finite(value), allow_nan=False)
            for key, value in values.items()
        }

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], source: str) -> OnnxDescription:
        """What `to_metadata` gave. Raises CheckpointError for other metadata or those of another version."""
        own = {key.removeprefix(PREFIX): value for key, value in metadata.items() if key.startswith(PREFIX)}
        if "format_version" not in own:
            raise CheckpointError(f"{source}: not exported by xvectors: its metadata lack {PREFIX}format_version")
        if own["format_version"] != str(FORMAT_VERSION):
            raise CheckpointError(
                f"{source}: format version {own['format_version']} is not {FORMAT_VERSION}; it was exported by another "
                "version of xvectors, export it again"
            )
        try:
            return cls(
                sample_rate_hz=int(own["sample_rate_hz"]),
                embedding_dim=int(own["embedding_dim"]),
                min_samples=int(own["min_samples"]),
                channel=int(own["channel"]),
                fingerprint=own["fingerprint"],
                precision=own["precision"],
                recipe=own["recipe"],
                versions=json.loads(own["versions"]),
                verifier=_verifier(own),
            )
        except (KeyError, TypeError, ValueError, binascii.Error, XVectorsError) as error:
            raise CheckpointError(f"{source}: damaged metadata ({error!r}); export it again") from error


_NUMBERS = ("sample_rate_hz", "embedding_dim", "min_samples", "channel")
_TEXTS = ("fingerprint", "precision", "recipe")


def _finite(value: Any) -> Any:
    """Plain values with null for figures that are no number, which JSON does not have."""
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _verifier(own: Mapping[str, str]) -> Verifier:
    if "verifier" not in own:
        return cosine_verifier()
    table = json.loads(own["verifier"])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "backend.npz"
        path.write_bytes(base64.b64decode(own["backend"], validate=True))
        backend = load_backend(path)
    backend_table = dict(table["backend"])
    return Verifier(
        backend=backend,
        name=backend_table.pop("name"),
        calibration=AffineCalibration.from_dict(table["calibration"]),
        backend_table=backend_table,
        basis=table["basis"],
        figures=table["figures"],
        p_target=table["decision"]["p_target"],
    )


class OnnxEncoder:
    """An exported system, ready to embed recordings, without torch.

    Parameters
    ----------
    path
        What `xvectors export` wrote.
    threads
        Of one embedding; by default onnxruntime's choice, the machine's cores.
    providers
        onnxruntime's names of what computes, the first that is there: ["CUDAExecutionProvider",
        "CPUExecutionProvider"]. By default the CPU.

    Raises MissingExtraError without onnxruntime, CheckpointError for a file that is missing, damaged or not exported
    by xvectors, ConfigError for an impossible number of threads or provider.

    >>> encoder = OnnxEncoder("model.onnx")                                    # doctest: +SKIP
    >>> encoder.encode(["a.wav", "b.wav"]).shape                               # doctest: +SKIP
    (2, 128)
    """

    def __init__(
        self, path: str | PathLike[str], *, threads: int | None = None, providers: Sequence[str] | None = None
    ) -> None:
        if threads is not None and threads < 1:
            raise ConfigError(f"threads must be at least 1, not {threads}")
        self.path = Path(path)
        self._session = open_session(self.path, threads=threads, providers=providers)
        metadata = self._session.get_modelmeta().custom_metadata_map
        self.description = OnnxDescription.from_metadata(metadata, str(self.path))

    @property
    def sample_rate_hz(self) -> int:
        return self.description.sample_rate_hz

    @property
    def embedding_dim(self) -> int:
        return self.description.embedding_dim

    @property
    def fingerprint(self) -> str:
        """Of the system: the sha256 of its model.safetensors."""
        return self.description.fingerprint

    @property
    def samples_needed(self) -> int:
        """Samples of the shortest recording that has an embedding."""
        return self.description.min_samples

    @property
    def channel(self) -> audio.Channel:
        """Which channel of a file is embedded, or their mix."""
        return "mix" if self.description.channel < 0 else self.description.channel

    @property
    def verifier(self) -> Verifier:
        """The system's back-end and calibration; plain cosines where it had none."""
        return self.description.verifier

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
            Paths, the bytes of sound files, or mono waveforms [samples] in [-1, 1], arrays or tensors; a single one
            counts as a list of one.
        sample_rate_hz
            Of the waveforms, where it is not the system's; they are resampled. Files say their own.
        batch_size
            Recordings of one length that are embedded together, at most.

        Returns
        -------
        float32 [recordings, embedding_dim], in the order given.

        Raises
        ------
        AudioError
            Names the first recording that cannot be read, holds NaN or only zeros, or is shorter than the network's
            context (TooShortError).
        """
        if batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, not {batch_size}")
        if isinstance(recordings, str | PathLike | bytes | np.ndarray) or hasattr(recordings, "detach"):
            recordings = [recordings]
        listed: Sequence[Recording] = recordings
        embeddings = np.zeros((len(listed), self.embedding_dim), dtype=np.float32)
        waiting = iter(range(len(listed)))
        with (
            progress("embedding", len(listed), enabled=show_progress) as shown,
            ThreadPoolExecutor(READERS) as readers,
        ):

            def begin() -> dict[int, Future[NDArray[np.float32]]]:
                indices = islice(waiting, READ_AHEAD)
                return {i: readers.submit(self._read, listed[i], i, sample_rate_hz) for i in indices}

            coming = begin()
            while coming:
                try:
                    waveforms = {index: future.result() for index, future in coming.items()}
                except AudioError:
                    readers.shutdown(wait=False, cancel_futures=True)
                    raise
                coming = begin()
                indices = list(waveforms)
                embeddings[indices] = self.embed(list(waveforms.values()), batch_size=batch_size)
                for index in indices:
                    if not np.isfinite(embeddings[index]).all():
                        readers.shutdown(wait=False, cancel_futures=True)
                        name = _name(listed[index], index)
                        raise AudioError(f"{name}: its embedding is not finite; are the samples sound?")
                shown.advance(len(indices))
        return embeddings

    def embed(self, waveforms: Sequence[NDArray[np.float32]], *, batch_size: int = 32) -> NDArray[np.float32]:
        """Embeddings float32 [n, embedding_dim] of waveforms float32 [samples] at the system's rate, none too short.

        Those of one length go through the graph together, which has no room for padding. With int8 each goes alone:
        the step of the quantised values is taken from all that is in a batch.
        """
        embeddings = np.zeros((len(waveforms), self.embedding_dim), dtype=np.float32)
        most = batch_size if self.description.precision == FLOAT32 else 1
        by_length = sorted(range(len(waveforms)), key=lambda index: len(waveforms[index]))
        for length, group in groupby(by_length, key=lambda index: len(waveforms[index])):
            at_once = max(1, min(most, MOST_SAMPLES_A_BATCH // max(length, 1)))
            for members in _chunks(group, at_once):
                batch = np.stack([waveforms[index] for index in members])
                embeddings[members] = self._session.run(None, {"waveform": batch})[0]
        return embeddings

    def _read(self, recording: Recording, index: int, rate_hz: int | None) -> NDArray[np.float32]:
        name = _name(recording, index)
        if isinstance(recording, str | PathLike | bytes):
            samples, _ = audio.read(recording, sample_rate_hz=self.sample_rate_hz, channel=self.channel)
        else:
            detached: Any = recording.detach().cpu() if hasattr(recording, "detach") else recording
            array = np.asarray(detached)
            if array.ndim != 1 or not np.issubdtype(array.dtype, np.floating):
                raise AudioError(
                    f"{name}: a waveform must be one-dimensional floats in [-1, 1], not {array.dtype} "
                    f"{list(array.shape)}"
                )
            samples = audio.resample(array, rate_hz or self.sample_rate_hz, self.sample_rate_hz)
        needed, rate = self.samples_needed, self.sample_rate_hz
        if len(samples) < needed:
            raise TooShortError(
                f"{name}: {len(samples) / rate:.3f} s of audio are less than the {needed / rate:.3f} s that the "
                f"network looks at around every frame; give more"
            )
        if not np.isfinite(samples.sum(dtype=np.float64)):
            raise AudioError(f"{name}: samples that are NaN or infinite; convert it again")
        if not samples.any():
            raise AudioError(f"{name}: only zeros; there is no voice in it")
        return samples


def open_session(path: Path, *, threads: int | None = None, providers: Sequence[str] | None = None) -> Any:
    """onnxruntime's session on a file. Errors are those of `OnnxEncoder`."""
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError(
            f"{path}: needs onnxruntime to be run; pip install 'xvectors[onnx]', or pip install onnxruntime"
        ) from error
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; `xvectors export DIR {path}` writes it")
    wanted = list(providers or ["CPUExecutionProvider"])
    there = onnxruntime.get_available_providers()
    found = [name for name in wanted if name in there]
    if not found:
        raise ConfigError(f"none of {', '.join(wanted)} is in this onnxruntime; it has {', '.join(there)}")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors alone: it has much to say about shapes that stay open
    if threads is not None:
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(fspath(path), options, providers=found)
    except Exception as error:  # onnxruntime's own errors share no other class
        raise CheckpointError(f"{path} is damaged or no ONNX file: {str(error).splitlines()[0]}") from error


def _name(recording: Recording, index: int) -> str:
    return str(recording) if isinstance(recording, str | PathLike) else f"recording {index}"


def _chunks(indices: Iterator[int], size: int) -> Iterator[list[int]]:
    while chunk := list(islice(indices, size)):
        yield chunk
