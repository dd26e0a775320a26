"""A system as one graph, from waveforms or features to embeddings, that torch exports to ONNX.

It computes the same as the encoder for recordings of one length, in operations that every ONNX runtime has: a gather
makes the frames, matrix products the spectrum, and each BatchNorm is folded into the layer before it or becomes an
affine map.
"""

from __future__ import annotations

import copy
import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from xvectors.features import Fbank
from xvectors.features.fbank import log_energy
from xvectors.features.normalization import leveled, limit_range, mean_normalize, preemphasized, without_dc
from xvectors.models import Backbone, EmbeddingMap
from xvectors.models.folding import fold_norms


class EmbeddingGraph(nn.Module):
    """Network and embedding map, from features [batch, frames, mels] to embeddings [batch, embedding_dim]."""

    def __init__(self, model: Backbone, embedding_map: EmbeddingMap | None = None, *, int8: bool = False) -> None:
        super().__init__()
        self.model = fold_norms(copy.deepcopy(model).cpu().float(), clamped=not int8)
        self.embedding_map = copy.deepcopy(embedding_map)

    def forward(self, features: Tensor) -> Tensor:
        embedding = self.model.embed(features)
        return embedding if self.embedding_map is None else cast(Tensor, self.embedding_map(embedding))


class WaveformGraph(EmbeddingGraph):
    """Features, network and embedding map, from waveforms [batch, samples] to embeddings [batch, embedding_dim]."""

    def __init__(
        self, fbank: Fbank, model: Backbone, embedding_map: EmbeddingMap | None = None, *, int8: bool = False
    ) -> None:
        super().__init__(model, embedding_map, int8=int8)
        self.features = GraphFbank(fbank)

    def forward(self, waveform: Tensor) -> Tensor:
        return super().forward(self.features(waveform))


class GraphFbank(nn.Module):
    """`Fbank` without an FFT, which few runtimes compute well: waveforms [batch, samples] to [batch, frames, mels].

    The power of a frame's spectrum does not depend on the origin of time. With the origin in the middle of the frame,
    the real parts depend only on the sum of the frame and its mirror image, and the imaginary parts only on the
    difference, which halves the multiplications of a product with the Fourier matrix. The matrices contain the window,
    which is symmetric, and leave out the bins that no filter uses. A periodic window is a symmetric one without its
    last sample, which a zero at the end of the frame stands for.
    """

    cosines: Tensor
    sines: Tensor
    filters: Tensor

    def __init__(self, fbank: Fbank) -> None:
        super().__init__()
        self.fbank = copy.deepcopy(fbank).cpu()
        window = self.fbank.window.double()
        if fbank.periodic_window:
            window = torch.cat((window, window[:1]))
        length = len(window)
        assert torch.allclose(window, window.flip(0), atol=1e-6), "the folded frame needs a symmetric window"
        doubled = len(self.fbank.filters) > fbank.fft_length // 2 + 1
        filters = self.fbank.filters[::2] if doubled else self.fbank.filters
        bins = filters.any(dim=1).nonzero().squeeze(1)
        self.half_length = -(-length // 2)
        time = torch.arange(self.half_length, dtype=torch.float64) - (length - 1) / 2
        angle = 2 * math.pi / fbank.fft_length * time.unsqueeze(1) * bins
        weight = window[: self.half_length].unsqueeze(1).clone()
        if length % 2:
            weight[-1] /= 2  # the middle sample is its own mirror image
        self.register_buffer("cosines", (weight * angle.cos()).float())
        self.register_buffer("sines", (weight * angle.sin()).float())
        self.register_buffer("filters", filters[bins].contiguous())

    def forward(self, waveform: Tensor) -> Tensor:
        fbank = self.fbank
        if fbank.remove_dc and fbank.remove_dc_over == "recording":
            waveform = without_dc(waveform, None)
        if fbank.normalize_level:
            waveform = leveled(waveform, None, increase_only=fbank.level_increase_only)
        if fbank.sample_scale != 1.0:
            waveform = waveform * fbank.sample_scale
        if fbank.preemphasis and fbank.preemphasis_over == "recording":
            waveform = preemphasized(waveform, fbank.preemphasis)
        frames = self._framed(waveform)
        if fbank.remove_dc and fbank.remove_dc_over == "frame":
            frames = frames - frames.mean(dim=2, keepdim=True)
        energy = log_energy(frames) if fbank.energy_as_c0 else None
        if fbank.preemphasis and fbank.preemphasis_over == "frame":
            first = frames[..., :1] * (1.0 - fbank.preemphasis)
            frames = torch.cat((first, frames[..., 1:] - fbank.preemphasis * frames[..., :-1]), dim=2)
        if fbank.periodic_window:
            frames = functional.pad(frames, (0, 1))
        head, tail = frames[..., : self.half_length], frames[..., frames.shape[2] - self.half_length :].flip(2)
        power = ((head + tail) @ self.cosines).square() + ((head - tail) @ self.sines).square()
        values = power if fbank.use_power else power.sqrt()
        if fbank.power_floor:
            values = values.clamp(min=fbank.power_floor)
        features = fbank.compressed(values @ self.filters)
        if fbank.cepstra is not None:
            features = features @ fbank.cepstra
        if energy is not None:
            features = torch.cat((energy, features[..., 1:]), dim=2)
        if fbank.top_db:
            features = limit_range(features, None, fbank.top_db)
        return (
            mean_normalize(features, window_frames=fbank.mean_window_frames) if fbank.mean_normalization else features
        )

    def _framed(self, waveform: Tensor) -> Tensor:
        """Gather frames [batch, frames, frame_length], in pieces of the greatest common divisor of length and shift."""
        length, shift, samples = self.fbank.frame_length, self.fbank.frame_shift, waveform.shape[1]
        framing = self.fbank.framing
        if framing.centered:
            count = samples // shift + 1 + framing.extra_frames
        elif framing.mirrored:
            count = (samples + shift // 2) // shift
        else:
            count = (samples + 2 * framing.edge_zeros - length) // shift + 1
        waveform = framing.extended(waveform, None)[:, : (count - 1) * shift + length]
        piece = math.gcd(length, shift)
        index = torch.arange(count).unsqueeze(1) * (shift // piece) + torch.arange(length // piece)
        batch = waveform.shape[0]
        pieces = waveform.reshape(batch, -1, piece).index_select(1, index.flatten())
        return pieces.reshape(batch, count, length)
