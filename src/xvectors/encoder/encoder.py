"""`SpeakerEncoder`: embed recordings with a system, and verify them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from os import PathLike
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xvectors.audio import Channel
from xvectors.audio.recording import Recording, as_list, channels_apart
from xvectors.audio.speech import Heard, listen
from xvectors.audio.vad import DetectorName, find_detector
from xvectors.corpus import Manifest
from xvectors.encoder.batching import embed_all
from xvectors.encoder.engines import Engine, load_engine, torch_engine
from xvectors.encoder.results import Embedded
from xvectors.encoder.sources import Long, Whole, blocks_of, name_of, opened, read_row, ready
from xvectors.encoder.windows import Windows, WindowStream
from xvectors.errors import XVectorsError
from xvectors.system.folder import STARTER
from xvectors.verification import Verifier
from xvectors.verification.decision import Decision, verify
from xvectors.verification.speaker_models import EnrolledSpeaker

if TYPE_CHECKING:
    import torch

    from xvectors.config import Recipe
    from xvectors.features import Fbank
    from xvectors.models import Backbone
    from xvectors.system.onnx_network import Waveforms


class SpeakerEncoder:
    """Turns recordings into embeddings, and compares them.

    Parameters
    ----------
    engine
        Computes the embeddings. `from_pretrained` loads one.

    Examples
    --------
    >>> encoder = SpeakerEncoder.from_pretrained()                             # doctest: +SKIP
    >>> encoder.encode(["a.wav", "b.wav"]).shape                               # doctest: +SKIP
    (2, 128)
    >>> encoder.verify("a.wav", "b.wav").answer                                # doctest: +SKIP
    'same speaker'
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
        return cls(load_engine(name_or_path, device=device, threads=threads, precision=precision))

    @property
    def sample_rate_hz(self) -> int:
        """Sample rate of the system; recordings of other rates are resampled to it."""
        return self.engine.sample_rate_hz

    @property
    def embedding_dim(self) -> int:
        """Dimension of the embeddings."""
        return self.engine.embedding_dim

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the features and weights: embeddings of different fingerprints must not be compared."""
        return self.engine.fingerprint

    @property
    def shortest_s(self) -> float:
        """Duration of the shortest recording that has an embedding, in seconds."""
        return self.engine.samples_needed / self.engine.sample_rate_hz

    @property
    def model(self) -> Backbone:
        """The network as it was trained. A copy of it computes the embeddings, so changing it has no effect on them."""
        return torch_engine(self.engine).model

    @property
    def fbank(self) -> Fbank | Waveforms:
        """The features of the system; for an imported network that takes waveforms, the samples themselves."""
        return torch_engine(self.engine).fbank

    @property
    def recipe(self) -> Recipe:
        """The recipe that the system was trained with."""
        return torch_engine(self.engine).recipe

    @property
    def speakers(self) -> tuple[str, ...]:
        """Names of the speakers that the system was trained on."""
        return torch_engine(self.engine).speakers

    @property
    def device(self) -> torch.device:
        """The device that computes the embeddings."""
        return torch_engine(self.engine).device

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
            Paths, bytes of sound files, binary file objects (read to their end), or mono waveforms [samples] of floats
            in [-1, 1] as arrays or tensors; or a single one of these.
        sample_rate_hz
            Sample rate of the waveforms, if it is not the system's; they are resampled. Files state their own.
        channel
            Channel of files: "mix" (the mean), "left", "right" or a number from 0; by default the channel that the
            system was trained on, usually "mix". "separate" makes each channel a recording of its own, so that a stereo
            file gives two rows.
        batch_size
            Number of recordings that the network takes at once.
        trim_silence
            The VAD. "energy" shortens pauses to 0.6 s, as in `verify`; if it finds no speech, as in a whisper or a
            tone, everything is embedded. "silero" (extra `vad`) embeds only what that VAD takes for speech. None embeds
            everything. Runs of zeros of 10 ms and longer are never embedded.
        progress
            Whether to show a progress bar.

        Returns
        -------
        float32 [recordings, embedding_dim], in the order given. A recording longer than `MAX_WHOLE_S` seconds is
        cut into pieces, and its embedding is the mean of theirs, weighted by their duration after trimming.

        Raises
        ------
        AudioError
            A recording cannot be read, holds NaN, is an array with several channels, or is shorter than the network's
            context. The first such recording is named.
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

        return embed_all(
            self.engine,
            len(items),
            read,
            name,
            detector,
            batch_size=batch_size,
            progress=progress,
            stop_at_failure=True,
        ).embeddings

    @property
    def verifier(self) -> Verifier:
        """The system's back-end and calibration, or cosine scoring without one. Raises CheckpointError if damaged."""
        return self.engine.verifier

    def listen(
        self,
        recording: Recording,
        *,
        name: str = "recording",
        sample_rate_hz: int | None = None,
        channel: Channel | None = None,
    ) -> Heard:
        """Read a recording and reduce it to its speech, and assess its quality.

        `verify` and the gallery listen to recordings in this way; `encode` embeds the same samples by default.

        Parameters
        ----------
        recording
            As in `encode`.
        name
            What error messages call a recording that has no path.
        sample_rate_hz
            Sample rate of a waveform, if it is not the system's.
        channel
            Channel of a file; by default the system's.

        Raises
        ------
        AudioError
            The recording cannot be read.
        """
        return listen(
            recording,
            name,
            sample_rate_hz=self.sample_rate_hz,
            waveform_rate_hz=sample_rate_hz,
            channel=self.engine.channel if channel is None else channel,
        )

    def encode_heard(self, waveforms: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Embed the `samples` that `listen` returned, which need no more trimming: float32 [n, embedding_dim]."""
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
        """Embed the recordings of a corpus. Those that cannot be used are listed in the result, not raised.

        Parameters
        ----------
        manifest
            The corpus.
        rows
            The rows to embed, ascending; by default all of them.
        channel
            Channel of all files, or of each row of the manifest; by default the system's.
        batch_size, trim_silence, progress
            As in `encode`.
        """
        has_segments = manifest.has_segments
        chosen = np.arange(len(manifest)) if rows is None else np.asarray(rows, dtype=np.int64)
        detector = find_detector(trim_silence)

        def read(index: int) -> Whole | Long:
            row = int(chosen[index])
            row_channel = channel if channel is None or isinstance(channel, str | int) else channel[row]
            found = read_row(manifest, row, self.engine, row_channel, is_segment=has_segments)
            return ready(found, name(index), self.engine, detector, measured=True)

        def name(index: int) -> str:
            return str(manifest.full_path(int(chosen[index])))

        embedded = embed_all(
            self.engine,
            len(chosen),
            read,
            name,
            detector,
            batch_size=batch_size,
            progress=progress,
            stop_at_failure=False,
            measured=True,
        )
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
        """Embed sliding windows of one recording of any length.

        Windows of `window_s` seconds start every `hop_s` seconds. If samples remain after the last one, one more
        window ends with the recording; a recording shorter than a window is a single window. Runs of zeros are not
        embedded, and windows that are then shorter than the network's context are left out.

        Raises
        ------
        AudioError
            As in `encode`.
        ConfigError
            The window is shorter than the network's context, or the hop is not above 0 and at most a window.
        """
        name = name_of(recording, 0)
        stream = WindowStream(self.engine, window_s=window_s, hop_s=hop_s, batch_size=batch_size, name=name)
        return stream.embed(blocks_of(opened(recording, 0, self.engine, sample_rate_hz)))

    def stream(
        self,
        window_s: float = 1.5,
        hop_s: float = 0.5,
        *,
        sample_rate_hz: int | None = None,
        batch_size: int = 32,
    ) -> WindowStream:
        """Embed sliding windows of audio that arrives chunk by chunk, as `encode_windows` does for a recording.

        Call `feed(samples)` on the result for each chunk, then `finish()`. `sample_rate_hz` is the rate of the chunks,
        if it is not the system's.
        """
        return WindowStream(
            self.engine, window_s=window_s, hop_s=hop_s, sample_rate_hz=sample_rate_hz, batch_size=batch_size
        )
