"""The LSTM of GE2E, over windows of a recording.

Wan, Wang, Papir and Moreno, "Generalized end-to-end loss for speaker verification", ICASSP 2018, with the sizes and
windows of Resemblyzer (github.com/resemble-ai/Resemblyzer).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from xvectors.errors import ConfigError
from xvectors.models.backbone import MAX_LAYERS, Backbone, check_sizes
from xvectors.models.layers.padding import Padding


class GE2ELSTM(Backbone):
    """LSTM layers and a linear layer over overlapping windows, whose directions are averaged.

    The last hidden state of each window becomes a vector of length 1 without negative values, and the embedding is the
    direction of their mean. A window begins every `shift_frames` frames while three quarters of it lie in the
    recording; zeros fill up the last one, and the only one of a short recording.

    Parameters
    ----------
    num_speakers
        Outputs of the classifier.
    embedding_dim
        Width of the linear layer.
    input_dim
        Filterbanks per frame.
    width
        Width of the LSTM layers.
    depth
        Number of LSTM layers.
    window_frames
        Length of a window in frames.
    shift_frames
        Number of frames from the start of one window to the next.
    tail_frames
        Number of frames after the recording's own, `features.extra_frames`. They are read, but begin no window.
    """

    def __init__(
        self,
        num_speakers: int = 1000,
        embedding_dim: int = 256,
        input_dim: int = 40,
        width: int = 256,
        depth: int = 3,
        *,
        window_frames: int = 160,
        shift_frames: int = 77,
        tail_frames: int = 0,
    ) -> None:
        check_sizes(self, width=width, depth=depth, window_frames=window_frames, shift_frames=shift_frames)
        if depth > MAX_LAYERS:
            raise ConfigError(f"GE2ELSTM: depth is {depth}; it must be at most {MAX_LAYERS}")
        if shift_frames > window_frames:
            raise ConfigError(f"GE2ELSTM: shift_frames {shift_frames} must be at most window_frames, {window_frames}")
        if tail_frames < 0:
            raise ConfigError(f"GE2ELSTM: tail_frames is {tail_frames}; it must be at least 0")
        super().__init__(num_speakers, embedding_dim, input_dim, context_frames=tail_frames + 1)
        self.window_frames, self.shift_frames, self.tail_frames = window_frames, shift_frames, tail_frames
        self.lstm = nn.LSTM(input_dim, width, depth, batch_first=True)
        self.linear = nn.Linear(width, embedding_dim)
        self.classifier = nn.Linear(embedding_dim, num_speakers)

    def embed_frames(self, x: Tensor, padding: Padding | None) -> Tensor:
        batch, frames, bands = x.shape
        further = (frames - self._least_frames()) // self.shift_frames
        count = 1 + torch.sym_max(0, further)  # type: ignore[no-untyped-call]
        start = torch.arange(count, device=x.device).unsqueeze(1) * self.shift_frames
        position = start + torch.arange(self.window_frames, device=x.device)
        extended = functional.pad(x, (0, 0, 0, self.window_frames))
        windows = extended[:, position.flatten()].reshape(-1, self.window_frames, bands)
        if padding is None:
            return functional.normalize(
                self._embed_windows(windows).reshape(batch, -1, self.embedding_dim).sum(1), dim=1
            )
        own = 1 + ((padding.counts - self._least_frames()) // self.shift_frames).clamp(min=0)
        kept = (torch.arange(count) < own.unsqueeze(1)).flatten().nonzero().squeeze(1)  # on the CPU, as the counts are
        vectors = self._embed_windows(windows.index_select(0, kept.to(x.device)))
        sums = vectors.new_zeros(batch, self.embedding_dim).index_add(0, (kept // count).to(x.device), vectors)
        return functional.normalize(sums, dim=1)

    def _least_frames(self) -> int:
        """Return the least number of frames with which a window that begins at the first counts as covered."""
        return 3 * self.window_frames // 4 + 1 + self.tail_frames

    def _embed_windows(self, windows: Tensor) -> Tensor:
        # in float32 on CPUs, because oneDNN has an LSTM in half precision for some processors only
        with torch.autocast("cpu", enabled=False):
            _, (hidden, _) = self.lstm(windows.to(self.linear.weight.dtype))
        return functional.normalize(functional.relu(self.linear(hidden[-1])), dim=1)
