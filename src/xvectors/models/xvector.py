"""The x-vector network.

Snyder, Garcia-Romero, Sell, Povey and Khudanpur, "X-vectors: robust DNN embeddings for speaker recognition",
ICASSP 2018, table 1.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import cast

from torch import Tensor, nn
from torch.nn import functional

from xvectors.errors import ConfigError
from xvectors.models.backbone import MAX_LAYERS, Backbone
from xvectors.models.layers.padding import FrameNorm, Padding, check_edges, extended
from xvectors.models.layers.pooling import make_pooling
from xvectors.models.layers.tdnn import TDNNLayer

SPLICED_CONTEXTS = ((-2, -1, 0, 1, 2), (-2, 0, 2), (-3, 0, 3))
POOLED_DIM = 1500
MAX_CONTEXT_FRAMES = 3000
"""Frames that one output frame may depend on: half a minute, longer than most recordings."""
MAX_WIDTH = 65_536
OFFSETS = re.compile(r"-?\d{1,4}(?: -?\d{1,4})*")
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": functional.relu, "leaky_relu": functional.leaky_relu}


class XVector(Backbone):
    """Five time-delay layers, pooling, two segment layers and a classifier.

    Parameters
    ----------
    size
        Factor on the widths of the frame layers, `internal_dim` and 1500; each product is rounded.
    depth
        Number of layers that see one frame, between the three that splice frames and the wide layer.
    num_speakers
        Outputs of the classifier.
    embedding_dim
        Width of the two segment layers.
    input_dim
        Filterbanks per frame.
    internal_dim
        Width of the frame layers at size 1.
    batch_norm
        Whether a BatchNorm follows each activation, as in Kaldi's recipe, and the pooling, as in ECAPA-TDNN, where it
        removes the mean that all embeddings share.
    variance_floor
        Lower bound of the variance, in poolings that compute a deviation.
    pooling
        Pooling over frames: a name that `xvectors.models.POOLINGS` lists; the paper's is `statistics`.
    embedding_layer
        Segment layer whose output, before its activation, is the embedding: 1, as in the paper, or 2, as in WeSpeaker.
    activation
        Activation of all layers: relu, or leaky_relu, with a slope of 0.01 below 0, as in SpeechBrain.
    edges
        What a layer sees beyond the ends of a recording: none, so that it gives fewer frames, as in the paper, or the
        recording mirrored (reflect), as in SpeechBrain.
    contexts
        Offsets in frames that each frame layer sees, such as ["-2 -1 0 1 2", "-2 0 2", "0"], in place of the paper's
        and of `depth`; empty for the paper's.
    widths
        Width of each frame layer, in place of `size` and `internal_dim`; empty for these.
    segment_dim
        Width of the first segment layer where the embedding is that of the second; 0 for `embedding_dim`.

    Raises
    ------
    ConfigError
        A setting is impossible.

    Notes
    -----
    Published size: 4.2 M parameters up to the embedding, without `seg_fc2` and the classifier, with 24 filterbanks. The
    default network has 4,980,164 parameters, in the modules `tdnn1` to `tdnn5`, `seg_fc1`, `seg_fc2` and `classifier`;
    `batch_norm` adds `bn1` to `bn5`, `pool_bn`, `seg_bn1` and `seg_bn2`, and a pooling with weights adds `pooling`.
    """

    def __init__(
        self,
        size: float = 1,
        depth: int = 1,
        num_speakers: int = 1000,
        embedding_dim: int = 512,
        input_dim: int = 24,
        internal_dim: int = 512,
        *,
        batch_norm: bool = False,
        variance_floor: float = 1e-10,
        pooling: str = "statistics",
        embedding_layer: int = 1,
        activation: str = "relu",
        edges: str = "none",
        contexts: Sequence[str] = (),
        widths: Sequence[int] = (),
        segment_dim: int = 0,
    ) -> None:
        if embedding_layer not in (1, 2):
            raise ConfigError(f"XVector: embedding_layer is {embedding_layer!r}; it must be 1 or 2")
        if activation not in ACTIVATIONS:
            raise ConfigError(f"XVector: activation is {activation!r}; it must be one of {', '.join(ACTIVATIONS)}")
        if not 0 <= depth <= MAX_LAYERS:
            raise ConfigError(f"XVector: depth is {depth}; it must be at least 0 and at most {MAX_LAYERS}")
        if not math.isfinite(size):
            raise ConfigError(f"XVector: size is {size}; it must be a number above 0, such as 1.0")
        layers = _parsed(contexts) if contexts else (*SPLICED_CONTEXTS, *[(0,)] * (depth + 1))
        if contexts and edges == "reflect":
            raise ConfigError("XVector: edges is 'reflect', which is for the paper's contexts; leave contexts empty")
        outputs = _widths(size, internal_dim, len(layers))
        if widths:
            outputs = list(widths) if isinstance(widths, list | tuple) else []
        if len(outputs) != len(layers) or any(
            not isinstance(each, int) or not 1 <= each <= MAX_WIDTH for each in outputs
        ):
            if not widths:
                raise ConfigError(f"XVector: size is {size}; its layers have more than {MAX_WIDTH:,} units")
            raise ConfigError(
                f"XVector: widths is {widths!r}; it must be a list of {len(layers)} whole numbers, one for each frame "
                f"layer, each at least 1 and at most {MAX_WIDTH:,}"
            )
        if segment_dim < 0 or (segment_dim and embedding_layer == 1):
            raise ConfigError(
                f"XVector: segment_dim is {segment_dim}; it must be at least 1, with embedding_layer 2, or 0 for "
                "embedding_dim"
            )
        spans = [max(context) - min(context) for context in layers]
        # a mirrored layer needs half its span beside the end
        context_frames = 1 + (max(spans) // 2 if edges == "reflect" else sum(spans))
        if context_frames > MAX_CONTEXT_FRAMES:
            raise ConfigError(
                f"XVector: contexts make an output frame depend on {context_frames:,} frames; at most "
                f"{MAX_CONTEXT_FRAMES:,} are allowed"
            )
        super().__init__(num_speakers, embedding_dim, input_dim, context_frames)
        check_edges(self, edges, ("none", "reflect"))
        self.edges, self.embedding_layer, self.activation = edges, embedding_layer, ACTIVATIONS[activation]
        inputs, pooled_dim = [input_dim, *outputs[:-1]], outputs[-1]
        for i, context in enumerate(layers):
            self.add_module(f"tdnn{i + 1}", TDNNLayer(inputs[i], context, outputs[i], activation=self.activation))
            if batch_norm:
                self.add_module(f"bn{i + 1}", FrameNorm(outputs[i]))
        self.batch_norm = batch_norm
        self.num_frame_layers = len(layers)
        self.pooling = make_pooling(pooling, pooled_dim, variance_floor)
        segment_dim = segment_dim or embedding_dim
        self.seg_fc1 = nn.Linear(self.pooling.out_dim(pooled_dim), segment_dim)
        self.seg_fc2 = nn.Linear(segment_dim, embedding_dim)
        self.pool_bn = nn.BatchNorm1d(self.seg_fc1.in_features) if batch_norm else nn.Identity()
        self.seg_bn1 = nn.BatchNorm1d(segment_dim) if batch_norm else nn.Identity()
        self.seg_bn2 = nn.BatchNorm1d(embedding_dim) if batch_norm else nn.Identity()
        self.classifier = nn.Linear(embedding_dim, num_speakers)

    def embed_frames(self, x: Tensor, padding: Padding | None) -> Tensor:
        for i in range(1, self.num_frame_layers + 1):
            layer = cast(TDNNLayer, self.get_submodule(f"tdnn{i}"))
            if self.edges == "reflect":
                x = extended(x, -layer.context[0], layer.context[-1], self.edges, padding)
            else:
                padding = padding and padding.shortened(layer.span)
            x = layer(x)
            if self.batch_norm:
                # once trained, padding needs no zeros: no layer adds padding of its own, which would mix it in
                x = self.get_submodule(f"bn{i}")(x, padding if self.training else None)
        first = cast(Tensor, self.seg_fc1(self.pool_bn(self.pooling(x, padding))))
        return first if self.embedding_layer == 1 else self._second(first)

    def _second(self, first: Tensor) -> Tensor:
        return cast(Tensor, self.seg_fc2(self.seg_bn1(self.activation(first))))

    def classify(self, embedding: Tensor) -> Tensor:
        second = self._second(embedding) if self.embedding_layer == 1 else embedding
        return super().classify(self.seg_bn2(self.activation(second)))


def _widths(size: float, internal_dim: int, num_layers: int) -> list[int]:
    """Return the widths of frame layers by the size of the network; ConfigError for layers of no width."""
    width, pooled_dim = round(internal_dim * size), round(POOLED_DIM * size)
    if width < 1 or pooled_dim < 1:
        raise ConfigError(f"XVector: size {size} times internal_dim {internal_dim} leaves layers of no width")
    return [width] * (num_layers - 1) + [pooled_dim]


def _parsed(contexts: Sequence[str]) -> list[tuple[int, ...]]:
    """Read the offsets of each frame layer; ConfigError for anything but lists of whole numbers."""
    listed = contexts if isinstance(contexts, list | tuple) else []
    if not 1 <= len(listed) <= MAX_LAYERS or not all(
        isinstance(each, str) and OFFSETS.fullmatch(each) for each in listed
    ):
        raise ConfigError(
            f"XVector: contexts is {contexts!r}; it must be a list of texts, one for each frame layer, of whole "
            'numbers such as "-2 0 2"'
        )
    return [tuple(map(int, each.split())) for each in listed]
