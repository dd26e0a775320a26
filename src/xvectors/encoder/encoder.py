"""SpeakerEncoder: recordings in, embeddings out. It reads a system directory, features and weights together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xvectors.audio import Channel
from xvectors.audio.recording import FileRecording, Recording, as_list, channels_apart
from xvectors.audio.segments import Detector, find_spoken, hear
from xvectors.audio.speech import Heard, check_finite, listen
from xvectors.audio.vad import DetectorName, find_detector
from xvectors.corpus import Manifest
from xvectors.encoder import sources
from xvectors.encoder.batching import Read, batches, groups, read_ahead
from xvectors.encoder.engines import Engine
from xvectors.encoder.results import Embedded
from xvectors.encoder.sources import (
    Long,
    Whole,
    blocks_of,
    name_of,
    opened,
    pieces,
    read_segment,
    ready,
    silent,
    too_short,
)
from xvectors.encoder.windows import Windows, WindowStream
from xvectors.errors import AudioError, CheckpointError, ConfigError, MissingExtraError, XVectorsError
from xvectors.progress import progress_bar
from xvectors.system.folder import ONNX_SUFFIX, STARTER, find_system
from xvectors.verification import Verifier
from xvectors.verification.decision import Decision, verify
from xvectors.verification.speaker_models import EnrolledSpeaker

if TYPE_CHECKING:
    import torch

    from xvectors.config import Recipe
    from xvectors.encoder.engines.torch import TorchEngine
    from xvectors.features import Fbank
    from xvectors.models import Backbone


class SpeakerEncoder:
    """A trained network with its features, ready to embed recordings.

    >>> encoder = SpeakerEncoder.from_pretrained("exp/xv")                                # doctest: +SKIP
    >>> encoder.encode(["a.wav", "b.wav"]).shape                               # doctest: +SKIP
    (2, 512)

    `engine` computes.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def __repr__(self) -> str:
        try:
            calibrated: object = self.verifier.is_calibrated
        except XVectorsError:
            calibrated = "damaged"
        engine = self.engine
        return (
            f"SpeakerEncoder({engine.name!r}, embedding_dim={engine.embedding_dim}, sample_rate_hz="
            f"{engine.sample_rate_hz}, device={str(engine.device)!r}, calibrated={calibrated})"
        )

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | PathLike[str] = STARTER,
        *,
        device: str = "auto",
        threads: int | None = None,
        precision: str = "float32",
    ) -> SpeakerEncoder:
        """Load a system; without a name, the starter system that is part of the package.

        Without torch, a system directory runs from the `model.onnx` in it, as the starter does; its embeddings equal
        torch's within 1e-4.

        Parameters
        ----------
        name_or_path
            A system directory, an .onnx file that `xvectors export` wrote (needs the extra `onnx`, not torch),
            `"starter"`, or `"hf://owner/name"` for a system on the Hugging Face Hub.
        device
            `"cuda"`, `"mps"`, `"cpu"`, or `"auto"` for the first of these that is available.
        threads
            Number of CPU cores that the network may use; None leaves the choice to torch or onnxruntime.
        precision
            `"float32"`, or `"bfloat16"`: little more than half the time on processors with bfloat16 arithmetic
            (AVX-512 BF16, AMX, GPUs), and refused on others, where it would be far slower. Embeddings of the two
            precisions may be compared: for the starter, their cosine is above 0.9999. With bfloat16 a recording's
            embedding depends slightly on its batch. An .onnx file has a precision of its own.

        Raises
        ------
        CheckpointError
            The system is missing or damaged.
        ConfigError
            The device, precision or number of threads is not possible.
        MissingExtraError
            The system needs an extra that is not installed.
        """
        if Path(name_or_path).suffix == ONNX_SUFFIX and not Path(name_or_path).is_dir():
            from xvectors.encoder.engines.onnx import OnnxEngine

            if precision != "float32":
                raise ConfigError(
                    f"precision {precision!r}: {name_or_path} was exported with its own; leave the setting out"
                )
            return cls(OnnxEngine(name_or_path, device=device, threads=threads))
        folder = find_system(name_or_path if isinstance(name_or_path, str) else Path(name_or_path))
        try:
            from xvectors.encoder.engines.torch import TorchEngine
        except ModuleNotFoundError as error:
            if error.name != "torch":
                raise
            from xvectors.encoder.engines.onnx import OnnxEngine

            if precision != "float32":
                raise MissingExtraError(
                    f"precision {precision!r} needs torch, which is not installed: pip install torch, or leave it out"
                ) from error
            return cls(OnnxEngine.beside(folder, device=device, threads=threads))
        return cls(TorchEngine.load(folder, device=device, threads=threads, precision=precision))

    @property
    def sample_rate_hz(self) -> int:
        return self.engine.sample_rate_hz

    @property
    def embedding_dim(self) -> int:
        return self.engine.embedding_dim

    @property
    def fingerprint(self) -> str:
        """Which system it is, the sha256 of its weights: embeddings of two fingerprints are not to be compared."""
        return self.engine.fingerprint

    @property
    def shortest_s(self) -> float:
        """Seconds of the shortest recording that has an embedding."""
        return self.engine.samples_needed / self.engine.sample_rate_hz

    @property
    def model(self) -> Backbone:
        """The network as it was trained. A copy of it embeds: what is changed here changes no embedding."""
        return self._torch.model

    @property
    def fbank(self) -> Fbank:
        return self._torch.fbank

    @property
    def recipe(self) -> Recipe:
        return self._torch.recipe

    @property
    def speakers(self) -> tuple[str, ...]:
        """Names of the speakers that the network was trained on."""
        return self._torch.speakers

    @property
    def device(self) -> torch.device:
        return self._torch.device

    @property
    def _torch(self) -> TorchEngine:
        only = "only a system directory loaded with torch has its network, recipe and speakers; load that instead"
        try:
            from xvectors.encoder.engines.torch import TorchEngine
        except ModuleNotFoundError as error:
            raise CheckpointError(only) from error
        if not isinstance(self.engine, TorchEngine):
            raise CheckpointError(only)
        return self.engine

    def encode(
        self,
        recordings: Iterable[Recording] | Recording,
        *,
        sample_rate_hz: int | None = None,
        channel: Channel | Literal["separate"] | None = None,
        batch_size: int = 32,
        trim_silence: DetectorName | None = "energy",
        progress: bool = False,
    ) -> NDArray[np.float32]:
        """Embed whole recordings; the result does not depend on the batch size or the order (within 1e-4).

        Parameters
        ----------
        recordings
            Paths, bytes of sound files, binary file objects (read to their end), or mono waveforms [samples] in
            [-1, 1] as arrays or tensors; a single one counts as a list of one. Files are mixed to one channel, or the
            one that the system was trained on is taken; an array with channels is an error.
        sample_rate_hz
            Of the waveforms, where it is not the system's; they are resampled. Files say their own.
        channel
            Of files: "mix", "left", "right" or a number from 0; by default the system's, usually the mix. "separate"
            makes each channel a recording of its own: a file with two gives two rows.
        trim_silence
            "energy" embeds the speech, as `verify` does: pauses longer than 0.6 s are cut down to that. Where it finds
            no speech, as in a whisper or a tone, everything is embedded. "silero" (extra `vad`) embeds only what that
            detector takes for speech; None embeds everything. Runs of zeros of 10 ms and more are never embedded.
        progress
            Whether to show a progress bar.

        Returns
        -------
        float32 [recordings, embedding_dim], in the order given. A recording longer than `LONGEST_WHOLE_S` is cut into
        pieces, whose embeddings are averaged, each by the duration of what was embedded of it.

        Raises
        ------
        AudioError
            Names the first recording that cannot be read, holds NaN, or is shorter than the network's context.
        """
        items = as_list(recordings)
        channels: list[Channel | None] = [None if channel == "separate" else channel] * len(items)
        if channel == "separate":
            items, channels = channels_apart(items)
        detector = find_detector(trim_silence)

        def read(index: int) -> Whole | Long:
            found = opened(items[index], index, self.engine, sample_rate_hz, channels[index])
            return ready(found, name(index), self.engine, detector)

        def name(index: int) -> str:
            return name_of(items[index], index)

        return self._encode(len(items), read, name, batch_size, progress, detector, stop_at_failure=True).embeddings

    @property
    def verifier(self) -> Verifier:
        """The system's back-end and calibration; the cosine where it has none. Raises CheckpointError for damage."""
        return self.engine.verifier

    def listen(
        self,
        recording: Recording,
        *,
        name: str = "recording",
        sample_rate_hz: int | None = None,
        channel: Channel | None = None,
    ) -> Heard:
        """The speech of one recording as a waveform to `encode`, its seconds, and what the recording is like.

        It is what `encode` embeds by default, and so is a recording heard that is verified, enrolled or identified.
        `name` is what errors call one that has no path, `sample_rate_hz` the rate of a waveform where it is not the
        system's, `channel` that of a file, by default the system's. Raises AudioError for a recording that cannot be
        read.
        """
        return listen(
            recording,
            name,
            sample_rate_hz=self.sample_rate_hz,
            waveform_rate_hz=sample_rate_hz,
            channel=self.engine.channel if channel is None else channel,
        )

    def encode_heard(self, waveforms: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Embed the `samples` of recordings that were listened to, which need no more trimming."""
        return self.encode(waveforms, trim_silence=None)

    def verify(
        self,
        first: Recording | EnrolledSpeaker,
        second: Recording,
        *,
        p_target: float | None = None,
        sample_rate_hz: int | None = None,
        channel: Channel | None = None,
    ) -> Decision:
        """Decide whether two recordings, or a recording and an enrolled speaker, are of the same speaker.

        The decision may also be "cannot tell". See `xvectors.verification.decision.verify`.

        Parameters
        ----------
        first
            A recording, or an enrolled speaker (`Gallery.speaker`).
        second
            A recording.
        p_target
            Probability of the same speaker before the recordings are heard; by default the calibration's.
        sample_rate_hz
            Sample rate of waveforms, where it is not the system's.
        channel
            Channel of files; by default the system's.

        Raises
        ------
        AudioError
            A recording cannot be read.
        CheckpointError
            The calibration is damaged.
        ConfigError
            `p_target` is outside (0, 1).
        GalleryError
            The speaker was enrolled with another system.
        """
        return verify(self, first, second, p_target=p_target, sample_rate_hz=sample_rate_hz, channel=channel)

    def encode_manifest(
        self,
        manifest: Manifest,
        *,
        rows: ArrayLike | None = None,
        channel: Channel | Sequence[Channel] | None = None,
        batch_size: int = 32,
        trim_silence: DetectorName | None = "energy",
        progress: bool = False,
    ) -> Embedded:
        """Embed every row, or these `rows`, ascending; recordings that cannot be used are listed, not fatal.

        `channel`: of all, or of each row of the manifest; by default the system's.
        """
        # as in the scan: without starts, a stated duration is a fact about the file, not a segment of it
        has_segments = manifest.has_segments
        chosen = np.arange(len(manifest)) if rows is None else np.asarray(rows, dtype=np.int64)
        detector = find_detector(trim_silence)

        def read(index: int) -> Whole | Long:
            row = int(chosen[index])
            duration_s = float(manifest.duration_s[row]) if has_segments else np.nan
            path = manifest.full_path(row)
            if row in manifest.faults:
                raise AudioError(f"{path}: {manifest.faults[row]}; correct the table")
            of_row = channel if channel is None or isinstance(channel, str | int) else channel[row]
            found = read_segment(
                FileRecording(path, str(path), self.engine.channel if of_row is None else of_row),
                self.engine,
                start_s=float(manifest.start_s[row]),
                duration_s=None if np.isnan(duration_s) else duration_s,
            )
            return ready(found, str(path), self.engine, detector)

        def name(index: int) -> str:
            return str(manifest.full_path(int(chosen[index])))

        embedded = self._encode(len(chosen), read, name, batch_size, progress, detector, stop_at_failure=False)
        failures = [(int(chosen[index]), reason) for index, reason in embedded.failures]
        return replace(embedded, rows=chosen[embedded.rows], failures=failures)

    def encode_windows(
        self,
        recording: Recording,
        *,
        window_s: float = 1.5,
        hop_s: float = 0.5,
        sample_rate_hz: int | None = None,
        batch_size: int = 32,
    ) -> Windows:
        """Embed windows of `window_s` seconds every `hop_s` seconds of one recording, of any length.

        One more window ends with the recording where the hops leave a rest, and a recording shorter than a window is
        one window. Runs of zeros are not embedded; windows in which less than the network's context is left are left
        out. Errors are those of `encode`, and ConfigError for a window shorter than the network's context or a hop that
        is not above 0 and at most a window.
        """
        name = name_of(recording, 0)
        stream = WindowStream(self.engine, window_s=window_s, hop_s=hop_s, batch_size=batch_size, name=name)
        source = opened(recording, 0, self.engine, sample_rate_hz)
        parts = [stream.feed(block) for block in blocks_of(source)]
        windows = Windows.join([*parts, stream.finish()])
        if not len(windows):
            raise silent(name)
        return windows

    def stream(
        self,
        window_s: float = 1.5,
        hop_s: float = 0.5,
        *,
        sample_rate_hz: int | None = None,
        batch_size: int = 32,
    ) -> WindowStream:
        """What `encode_windows` gives, of sound that comes chunk by chunk: `.feed(samples)`, then `.finish()`.

        `sample_rate_hz` is the chunks' rate, where it is not the system's.
        """
        return WindowStream(
            self.engine, window_s=window_s, hop_s=hop_s, sample_rate_hz=sample_rate_hz, batch_size=batch_size
        )

    def _encode(
        self,
        count: int,
        read: Callable[[int], Whole | Long],
        name: Callable[[int], str],
        batch_size: int,
        progress: bool,
        detector: Detector | None,
        *,
        stop_at_failure: bool,
    ) -> Embedded:
        if batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, not {batch_size}")
        embeddings = np.zeros((count, self.embedding_dim), dtype=np.float32)
        duration_s, speech_s = np.zeros(count), np.zeros(count)
        failures: dict[int, str] = {}

        def attempt(index: int) -> Read:
            try:
                return read(index)
            except (AudioError, MissingExtraError) as error:
                return error

        def fail(index: int, error: AudioError | MissingExtraError) -> None:
            if stop_at_failure:
                raise error
            failures[index] = str(error)

        def store(members: Sequence[int], vectors: NDArray[np.float32]) -> None:
            embeddings[members] = vectors
            for index, vector in zip(members, vectors, strict=True):
                if not np.isfinite(vector).all():
                    fail(index, AudioError(f"{name(index)}: its embedding is not finite; are the samples sound?"))

        with progress_bar("embedding", count, enabled=progress) as shown:
            for group in groups(read_ahead(count, attempt), batch_size):
                waveforms = {}
                for index, found in group.items():
                    if isinstance(found, Whole):
                        waveforms[index] = found.samples
                        duration_s[index], speech_s[index] = found.duration_s, found.speech_s
                    elif isinstance(found, Long):
                        try:
                            vector, duration_s[index], speech_s[index] = self._embed_long(found, detector)
                        except AudioError as error:
                            fail(index, error)
                        else:
                            store([index], vector[np.newaxis])
                    else:
                        fail(index, found)
                by_length = sorted(waveforms, key=lambda index: len(waveforms[index]))
                for members in batches(by_length, [len(waveforms[index]) for index in by_length], batch_size):
                    store(members, self.engine.embed([waveforms[index] for index in members]))
                shown.advance(len(group))
        rows = np.array([index for index in range(count) if index not in failures], dtype=np.int64)
        return Embedded(embeddings[rows], rows, sorted(failures.items()), duration_s[rows], speech_s[rows])

    def _embed_long(self, recording: Long, detector: Detector | None) -> tuple[NDArray[np.float32], float, float]:
        """The mean embedding [dim] of a recording's pieces, each weighted by its samples, its seconds, and those of
        speech in it."""
        rate, needed = self.engine.sample_rate_hz, self.engine.samples_needed
        total, weight, length, speech_s, sounds = np.zeros(self.embedding_dim), 0, 0, 0.0, False
        for piece in pieces(recording.blocks(), round(sources.LONGEST_WHOLE_S * rate), needed):
            length += len(piece)
            check_finite(piece, recording.name)
            heard, seconds = hear(piece, rate, detector)
            sounds |= bool(piece.any())
            # a piece in which nobody speaks does not count beside others in which somebody does
            if len(heard) >= needed and seconds:
                total += len(heard) * self.engine.embed([heard])[0].astype(np.float64)
                weight += len(heard)
                speech_s += seconds
        if not sounds:
            raise silent(recording.name)
        if not weight and detector is find_spoken:
            vector, *_ = self._embed_long(recording, None)
            return vector, length / rate, 0.0
        if not weight:
            raise too_short(recording.name, 0, self.engine, f"speech in {length / rate:.0f} s of audio")
        return (total / weight).astype(np.float32), length / rate, speech_s
