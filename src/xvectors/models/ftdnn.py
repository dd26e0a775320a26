"""The factorized TDNN (F-TDNN).

Povey, Cheng, Wang, Li, Xu, Yarmohammadi and Khudanpur, "Semi-orthogonal low-rank matrix factorization for deep neural
networks", Interspeech 2018; as a speaker network, Villalba et al., "State-of-the-art speaker recognition for telephone
and video speech: the JHU-MIT submission for NIST SRE18", Interspeech 2019.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from xvectors.models.backbone import Backbone, check_sizes
from xvectors.models.etdnn import SegmentLayers, TDNNBlock
from xvectors.models.layers.padding import FrameNorm, Padding
from xvectors.models.layers.pooling import make_pooling
from xvectors.models.layers.tdnn import TDNNLayer


class _Spec(NamedTuple):
    offset: int
    """The first factor sees the frames t - offset and t, the second t and t + offset; with 0, both see t alone."""
    skips: tuple[int, ...] = ()
    """Numbers of the layers whose bottlenecks the second factor sees too."""


LAYERS = {
    2: _Spec(2),
    3: _Spec(0),
    4: _Spec(3),
    5: _Spec(0, skips=(3,)),
    6: _Spec(3),
    7: _Spec(3, skips=(2, 4)),
    8: _Spec(3),
    9: _Spec(0, skips=(4, 6, 8)),
}
"""The factorized layers, by their number in the papers' tables; layer 1 is a plain layer, layer 10 the wide one."""
FIRST_CONTEXT = (-2, -1, 0, 1, 2)


class FTDNN(Backbone):
    """A time-delay layer, eight factorized layers, a wide layer, pooling, two segment layers and a classifier.

    Parameters
    ----------
    embedding_dim
        Width of the two segment layers; the embedding is the output of the first, before its activation.
    first_dim
        Width of the first layer.
    width
        Width of the factorized layers.
    bottleneck_dim
        Width of the bottlenecks in the factorized layers.
    pooled_dim
        Width of the wide layer before the pooling.
    pooling
        Pooling over frames (mean, statistics, attentive, multi_head or channel_context).

    Notes
    -----
    BatchNorm follows each activation. A skip connection appends the bottlenecks of earlier layers to that of a layer
    before its second factor, the small-to-large form of Povey et al. `after_step` keeps the first factors near a
    multiple of a semi-orthogonal matrix. Published size: 12.4 M parameters up to the embedding, with 30 coefficients
    per frame (Yu and Li, "Densely connected time delay neural network for speaker verification", Interspeech 2020).
    """

    def __init__(
        self,
        num_speakers: int = 1000,
        embedding_dim: int = 512,
        input_dim: int = 80,
        *,
        first_dim: int = 512,
        width: int = 1024,
        bottleneck_dim: int = 256,
        pooled_dim: int = 2048,
        pooling: str = "statistics",
    ) -> None:
        context_frames = len(FIRST_CONTEXT) + sum(2 * spec.offset for spec in LAYERS.values())
        super().__init__(num_speakers, embedding_dim, input_dim, context_frames)
        check_sizes(
            self,
            first_dim=first_dim,
            width=width,
            bottleneck_dim=bottleneck_dim,
            pooled_dim=pooled_dim,
        )
        self.first = TDNNBlock(input_dim, FIRST_CONTEXT, first_dim)
        self.factorized = nn.ModuleDict(
            {
                str(number): FactorizedBlock(
                    first_dim if number == 2 else width,
                    bottleneck_dim,
                    width,
                    offset=spec.offset,
                    num_skips=len(spec.skips),
                )
                for number, spec in LAYERS.items()
            }
        )
        self.last = TDNNBlock(width, (0,), pooled_dim)
        self.pooling = make_pooling(pooling, pooled_dim)
        self.segment = SegmentLayers(self.pooling.out_dim(pooled_dim), embedding_dim)
        self.classifier = nn.Linear(embedding_dim, num_speakers)

    def embed_frames(self, x: Tensor, padding: Padding | None) -> Tensor:
        x, padding = self.first(x, padding)
        bottlenecks: dict[int, Tensor] = {}
        # No layer pads its input, so each starts some frames after the one before it. `starts` holds the first frame of
        # each bottleneck, and of its layer's output, counted from that of layer 1.
        starts: dict[int, int] = {}
        start = 0
        for number, spec in LAYERS.items():
            starts[number] = start = start + spec.offset
            skips = [bottlenecks[n][:, start - starts[n] :] for n in spec.skips]
            x, bottlenecks[number], padding = self.factorized[str(number)](x, skips, padding)
        x, padding = self.last(x, padding)
        return cast(Tensor, self.segment.fc1(self.pooling(x, padding)))

    def classify(self, embedding: Tensor) -> Tensor:
        return super().classify(self.segment(embedding))

    @torch.no_grad()
    def after_step(self) -> None:
        """Move the first factors towards multiples of semi-orthogonal matrices.

        The paper does so every fourth step, to save time. Doing so in each step adds 0.4 % to the arithmetic of a batch
        of 64 chunks of 2 s, and needs no counter in the saved state of a run.
        """
        for block in self.factorized.values():
            weight = cast(FactorizedBlock, block).bottleneck.linear.weight
            weight.copy_(semi_orthogonal_step(weight))


class FactorizedBlock(nn.Module):
    """Two factors of a time-delay layer with a bottleneck between them, then ReLU and BatchNorm."""

    def __init__(self, input_dim: int, bottleneck_dim: int, output_dim: int, *, offset: int, num_skips: int) -> None:
        super().__init__()
        self.offset = offset
        self.bottleneck = TDNNLayer(
            input_dim, (-offset, 0) if offset else (0,), bottleneck_dim, bias=False, activation=None
        )
        nn.init.orthogonal_(self.bottleneck.linear.weight)
        taps = 2 if offset else 1
        self.expand = nn.Linear((taps + num_skips) * bottleneck_dim, output_dim)
        self.norm = FrameNorm(output_dim)

    def forward(self, x: Tensor, skips: list[Tensor], padding: Padding | None) -> tuple[Tensor, Tensor, Padding | None]:
        """Return the layer's frames, bottleneck and padding; `skips` start at the same frame as the bottleneck."""
        bottleneck = self.bottleneck(x)
        frames = x.shape[1] - 2 * self.offset
        later = [bottleneck[:, self.offset :]] if self.offset else []
        spliced = torch.cat([part[:, :frames] for part in (bottleneck, *later, *skips)], dim=2)
        padding = padding and padding.shortened(2 * self.offset)
        return self.norm(functional.relu(self.expand(spliced)), padding), bottleneck, padding


def semi_orthogonal_step(matrix: Tensor) -> Tensor:
    """Move a matrix [rows, columns] towards a multiple of one with orthonormal rows (or columns, if there are fewer).

    With P = M M' and alpha^2 = tr(P P') / tr(P), M becomes M - (P - alpha^2 I) M / (2 alpha^2), as in section 2.3 of
    Povey et al., "Semi-orthogonal low-rank matrix factorization for deep neural networks", Interspeech 2018. Near the
    goal each step squares the distance. Far from it, where the paper's step could diverge, the step is shorter.
    """
    if matrix.shape[0] > matrix.shape[1]:
        return semi_orthogonal_step(matrix.T).T
    gram = matrix @ matrix.T
    trace, square = gram.trace(), gram.square().sum()
    least = torch.finfo(
        matrix.dtype
    ).tiny  # keeps a matrix of zeros as it is, without waiting for a GPU to say what it holds
    scale = square / trace.clamp(min=least)
    # 1 where all rows are orthogonal and of equal length; Kaldi too shortens its step as this grows
    ratio = (square * len(matrix) / trace.square().clamp(min=least)).clamp(min=1.0)
    return matrix - 0.5 / ratio * (gram @ matrix / scale.clamp(min=least) - matrix)
