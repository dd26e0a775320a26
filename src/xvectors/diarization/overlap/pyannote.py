"""pyannote.audio's segmentation network, imported: https://huggingface.co/pyannote/segmentation-3.0 (MIT).

SincNet (Ravanelli and Bengio, SLT 2018), four bidirectional LSTMs and three linear layers give, for each frame of a
stretch of 10 s, the probabilities of nobody, of each of three speakers, and of each two of them (powerset: Plaquet and
Bredin, Interspeech 2023). Here they are summed to nobody, one and several.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from xvectors.audio import Samples
from xvectors.audio.recording import OpenRecording
from xvectors.audio.speech import check_finite
from xvectors.errors import CheckpointError
from xvectors.system.importers.checkpoint import read_checkpoint
from xvectors.text import first_few

SAMPLE_RATE_HZ = 16_000
CHUNK_SAMPLES = 160_000
STRIDE, POOL = 10, 3
FRAME_SAMPLES = STRIDE * POOL**3
"""270 samples, 16.875 ms."""
FIELD_SAMPLES = 991
"""Samples that a frame sees of the waveform, before the LSTMs."""
SHORTEST_SAMPLES = FIELD_SAMPLES + FRAME_SAMPLES
"""Two frames: one alone cannot be normalized over time."""
HOP_FRAMES = 296
"""Chunks begin every 4.995 s, so that all frames but the first and last seconds' are means of two chunks."""
MIN_HZ, TAPS, FILTERS = 50.0, 251, 40
SINC = "sincnet.conv1d.0.filterbank"
CLASSES = (slice(0, 1), slice(1, 4), slice(4, 7))
"""Classes of the powerset for nobody, for one of three speakers, and for two of them."""


class PyanNet(nn.Module):
    """The network, in evaluation mode: log probabilities of the seven classes of the powerset."""

    def __init__(self) -> None:
        super().__init__()
        self.wav_norm1d = nn.InstanceNorm1d(1, affine=True)
        self.conv1d = nn.ModuleList(
            [
                nn.Conv1d(1, 2 * FILTERS, TAPS, stride=STRIDE, bias=False),
                nn.Conv1d(2 * FILTERS, 60, 5),
                nn.Conv1d(60, 60, 5),
            ]
        )
        self.norm1d = nn.ModuleList([nn.InstanceNorm1d(size, affine=True) for size in (2 * FILTERS, 60, 60)])
        self.lstm = nn.LSTM(60, 128, num_layers=4, batch_first=True, bidirectional=True)
        self.linear = nn.ModuleList([nn.Linear(256, 128), nn.Linear(128, 128)])
        self.classifier = nn.Linear(128, 7)

    def forward(self, waveforms: Tensor) -> Tensor:
        """Return [batch, frames, 7] of waveforms [batch, samples] at 16 kHz of at least SHORTEST_SAMPLES samples."""
        hidden = self.wav_norm1d(waveforms.unsqueeze(1))
        for at, (convolve, normalize) in enumerate(zip(self.conv1d, self.norm1d, strict=True)):
            hidden = convolve(hidden) if at else convolve(hidden).abs()
            hidden = functional.leaky_relu(normalize(functional.max_pool1d(hidden, POOL)))
        hidden, _ = self.lstm(hidden.transpose(1, 2))
        for layer in self.linear:
            hidden = functional.leaky_relu(layer(hidden))
        return functional.log_softmax(self.classifier(hidden), dim=2)


def load_pyannote(path: Path) -> PyanNet:
    """Read pytorch_model.bin of pyannote's segmentation-3.0. Nothing in the file is executed.

    Raises CheckpointError for a file that cannot be read or holds another network.
    """
    tensors = dict(read_checkpoint(path).tensors)
    network = PyanNet()
    try:
        filters = sinc_filters(*(tensors.pop(f"{SINC}.{name}") for name in ("low_hz_", "band_hz_", "n_", "window_")))
        weights = {name.removeprefix("sincnet."): value for name, value in tensors.items()}
        network.load_state_dict(weights | {"conv1d.0.weight": filters})
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(
            f"{path}: is not the network of pyannote's segmentation-3.0 (it has {first_few(sorted(tensors))}); give "
            "its pytorch_model.bin"
        ) from error
    return network.eval()


def sinc_filters(low_hz: Tensor, band_hz: Tensor, times: Tensor, window: Tensor) -> Tensor:
    """Return band-pass filters [80, 1, 251], even (cosine) ones, then odd (sine) ones.

    `low_hz` and `band_hz` are [40, 1]: each filter passes from 50 Hz + |low| to 50 Hz + |band| above that. `times`
    [1, 125] are 2 pi seconds before the middle, `window` [125] is the first half of the window.
    """
    low = MIN_HZ + low_hz.abs()
    high = (low + MIN_HZ + band_hz.abs()).clamp(MIN_HZ, SAMPLE_RATE_HZ / 2)
    band = high - low
    even = (torch.sin(high * times) - torch.sin(low * times)) / (times / 2) * window
    odd = (torch.cos(low * times) - torch.cos(high * times)) / (times / 2) * window
    middle = torch.ones_like(band)
    cosines = torch.cat([even / (2 * band), middle, even.flip(1) / (2 * band)], dim=1)
    sines = torch.cat([odd / (2 * band), 0 * middle, -odd.flip(1) / (2 * band)], dim=1)
    return torch.cat([cosines, sines]).unsqueeze(1)


def count_by_pyannote(sound: OpenRecording, network: PyanNet) -> NDArray[np.float32]:
    """Return probabilities [frames, 3] of nobody, one and several; frames of 270 samples, the mean of their chunks."""
    found, total = list[NDArray[np.float32]](), np.zeros((0, 4), dtype=np.float32)
    at = 0  # the frame that `total` begins with: sums and, in the last column, their number
    with torch.inference_mode():
        for first, samples in _chunks(sound):
            powerset = network(torch.from_numpy(samples).unsqueeze(0))[0].exp().numpy()
            rows = np.stack([powerset[:, part].sum(axis=1) for part in (*CLASSES, slice(0, 7))], axis=1)
            found.append(total[: first - at])
            total, at = total[first - at :], first
            total = np.concatenate([total, np.zeros((max(0, len(rows) - len(total)), 4), dtype=np.float32)])
            total[: len(rows)] += rows
    sums = np.concatenate([*found, total])
    return np.asarray(sums[:, :3] / np.maximum(sums[:, 3:], 1e-3), dtype=np.float32)


def _chunks(sound: OpenRecording) -> Iterator[tuple[int, Samples]]:
    """Yield the first frame and the samples of chunks of 10 s; the last one ends with the recording."""
    buffer, first, hop = np.empty(0, dtype=np.float32), 0, HOP_FRAMES * FRAME_SAMPLES
    for piece in sound.stream(SAMPLE_RATE_HZ, CHUNK_SAMPLES / SAMPLE_RATE_HZ):
        check_finite(piece, sound.name)
        buffer = np.concatenate([buffer, piece])
        while len(buffer) >= CHUNK_SAMPLES + hop:
            yield first, buffer[:CHUNK_SAMPLES]
            buffer, first = buffer[hop:], first + HOP_FRAMES
    if len(buffer) >= SHORTEST_SAMPLES:
        yield first, buffer[:CHUNK_SAMPLES]
    if len(buffer) > CHUNK_SAMPLES:
        late = -(-(len(buffer) - CHUNK_SAMPLES) // FRAME_SAMPLES)
        yield first + late, buffer[late * FRAME_SAMPLES :]
