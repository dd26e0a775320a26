"""The encoder of the service: worker processes listen to recordings, and batches are embedded.

It is the encoder that `verification.decision.verify` and the gallery ask for, so that the service decides as the
commands do.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from xvectors.audio import Channel, Samples
from xvectors.audio.decoding.untrusted import Decoder
from xvectors.audio.recording import Recording
from xvectors.audio.speech import Heard
from xvectors.encoder import SpeakerEncoder
from xvectors.encoder.engines.onnx import OnnxEngine
from xvectors.errors import AudioError
from xvectors.serve.batching import Batcher
from xvectors.serve.metrics import Metrics
from xvectors.system.folder import ONNX_SUFFIX, find_system
from xvectors.verification import Verifier

WARM_UP_S = (1.0, 3.0)
"""Durations embedded before the first request, so that it does not wait for what libraries prepare once."""


def load_system(name: str, *, threads: int | None) -> SpeakerEncoder:
    """Load a system for the CPU: from its `model.onnx` where onnxruntime is installed, else with torch.

    onnxruntime embeds a recording in about half of torch's time. Parameters and errors are those of
    `SpeakerEncoder.from_pretrained`.
    """
    if not name.endswith(ONNX_SUFFIX) and find_spec("onnxruntime") is not None:
        folder = find_system(name)
        if folder.exported.is_file():
            return SpeakerEncoder(OnnxEngine.beside(folder, device="cpu", threads=threads))
    return SpeakerEncoder.from_pretrained(name, threads=threads)


class ServedEncoder:
    """Listens in the decoder's processes, and embeds in batches that concurrent requests share.

    Parameters
    ----------
    encoder
        The system.
    decoder
        Its processes listen; it is not closed by `close`.
    max_duration_s
        Longest recording.
    batch_size, batch_wait_s
        As in `Batcher`.
    metrics
        Told of recordings and batches.
    """

    def __init__(
        self,
        encoder: SpeakerEncoder,
        decoder: Decoder,
        *,
        max_duration_s: float,
        batch_size: int = 16,
        batch_wait_s: float = 0.002,
        metrics: Metrics,
    ) -> None:
        self._encoder, self._decoder, self._max_duration_s = encoder, decoder, max_duration_s
        self._metrics = metrics
        for seconds in WARM_UP_S:
            noise = np.random.default_rng(0).standard_normal(round(seconds * encoder.sample_rate_hz))
            encoder.encode_heard([(0.1 * noise).astype(np.float32)])
        self.verifier: Verifier = encoder.verifier
        self.fingerprint: str = encoder.fingerprint
        self.batcher = Batcher(
            encoder.encode_heard, max_recordings=batch_size, wait_s=batch_wait_s, observe=metrics.batches.observe
        )

    def listen(
        self,
        recording: Recording,
        *,
        name: str = "recording",
        sample_rate_hz: int | None = None,
        channel: Channel | None = None,
    ) -> Heard:
        """Listen to the bytes of a sound file as `SpeakerEncoder.listen` does, in a worker process.

        Raises AudioError for a recording that cannot be read, is too long or exceeds a limit of the decoder, and for
        anything but bytes: a service opens no files.
        """
        if not isinstance(recording, bytes):
            raise AudioError(f"{name}: the service reads the bytes of sound files alone; send those")
        try:
            heard = self._decoder.listen(
                recording,
                name,
                sample_rate_hz=self._encoder.sample_rate_hz,
                channel=self._encoder.engine.channel if channel is None else channel,
                max_duration_s=self._max_duration_s,
            )
        except AudioError:
            self._metrics.unusable.inc()
            raise
        self._metrics.speech.observe(heard.speech_s)
        return heard

    def encode_heard(self, waveforms: Sequence[Samples]) -> NDArray[np.float32]:
        """Embed the `samples` that `listen` returned: float32 [n, D]."""
        return self.batcher.embed(waveforms)

    @property
    def encoder(self) -> SpeakerEncoder:
        """The system without worker processes and batches."""
        return self._encoder

    def close(self) -> None:
        """Embed what waits, and end."""
        self.batcher.close()


class HeardEncoder:
    """Listens to waveforms, which need no decoder, and embeds in the batches of a `ServedEncoder`.

    Parameters
    ----------
    encoder
        Embeds.
    sample_rate_hz
        Sample rate of the waveforms.
    """

    def __init__(self, encoder: ServedEncoder, sample_rate_hz: int) -> None:
        self._encoder, self._sample_rate_hz = encoder, sample_rate_hz
        self.verifier, self.fingerprint = encoder.verifier, encoder.fingerprint

    def listen(
        self,
        recording: Recording,
        *,
        name: str = "recording",
        sample_rate_hz: int | None = None,
        channel: Channel | None = None,
    ) -> Heard:
        """Listen to a waveform [samples] in this process."""
        return self._encoder.encoder.listen(recording, name=name, sample_rate_hz=self._sample_rate_hz)

    def encode_heard(self, waveforms: Sequence[Samples]) -> NDArray[np.float32]:
        """Embed the `samples` that `listen` returned: float32 [n, D]."""
        return self._encoder.encode_heard(waveforms)
