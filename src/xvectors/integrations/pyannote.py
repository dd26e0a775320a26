"""A system as an embedding of pyannote.audio's pipelines.

It has the attributes and the call of the embeddings in `pyannote.audio.pipelines.speaker_verification`. pyannote itself
is not imported.
"""

from __future__ import annotations

from os import PathLike
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xvectors.audio.segments import without_zeros
from xvectors.encoder import SpeakerEncoder
from xvectors.encoder.engines.torch import TorchEngine
from xvectors.errors import ShapeError
from xvectors.system.folder import STARTER


class PyannoteEmbedding:
    """`PyannoteEmbedding("exp/xv")(waveforms, masks)` embeds the masked part of each waveform.

    The argument is that of `SpeakerEncoder.from_pretrained`, or an encoder.
    """

    metric = "cosine"
    """Metric of the embeddings."""

    def __init__(
        self,
        embedding: SpeakerEncoder | str | PathLike[str] = STARTER,
        device: torch.device | None = None,
    ) -> None:
        if not isinstance(embedding, SpeakerEncoder):
            embedding = SpeakerEncoder.from_pretrained(embedding, device="cpu")
        self.encoder = embedding
        if device is not None:
            self.to(device)

    def to(self, device: torch.device) -> Self:
        """Move the system to `device`."""
        if isinstance(self.encoder.engine, TorchEngine):
            self.encoder.engine.to(device)
        return self

    @property
    def sample_rate(self) -> int:
        """Sample rate of the waveforms in Hz."""
        return self.encoder.sample_rate_hz

    @property
    def dimension(self) -> int:
        return self.encoder.embedding_dim

    @property
    def min_num_samples(self) -> int:
        """Least number of samples that a mask must select."""
        return self.encoder.engine.samples_needed

    def __call__(self, waveforms: Tensor, masks: Tensor | None = None) -> NDArray[np.float32]:
        """Embed a batch.

        Parameters
        ----------
        waveforms
            float [batch, 1, samples] at `sample_rate`.
        masks
            [batch, frames], with any number of frames: values above 0.5 select parts of each waveform. All by default.

        Returns
        -------
        float32 [batch, dimension]; NaN rows for fewer than `min_num_samples` selected samples, or only zeros.

        Raises ShapeError for other shapes.
        """
        if waveforms.dim() != 3 or waveforms.shape[1] != 1:
            raise ShapeError(f"waveforms must be [batch, 1, samples], mono, got {list(waveforms.shape)}")
        batch, _, num_samples = waveforms.shape
        sound = waveforms.detach().squeeze(1).float().cpu()
        keep = torch.ones(batch, num_samples, dtype=torch.bool)
        if masks is not None:
            if masks.dim() != 2 or masks.shape[0] != batch or not masks.shape[1]:
                raise ShapeError(f"masks must be [{batch}, frames], got {list(masks.shape)}")
            frames = masks.shape[1]
            # the frame of each sample
            keep = (masks.detach().cpu() > 0.5)[:, torch.arange(num_samples) * frames // num_samples]
        left = [without_zeros(wave[kept].numpy(), self.sample_rate) for wave, kept in zip(sound, keep, strict=True)]
        usable = [row for row, wave in enumerate(left) if len(wave) >= self.min_num_samples and wave.any()]
        embeddings = np.full((batch, self.dimension), np.nan, dtype=np.float32)
        if usable:
            embeddings[usable] = self.encoder.encode_heard([left[row] for row in usable])
        return embeddings
