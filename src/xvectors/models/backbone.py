"""The skeleton of every speaker network: it checks a batch, finds its padding, and calls the network's layers."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from xvectors.errors import ConfigError, ShapeError, TooShortError
from xvectors.models.layers.padding import Padding

MAX_LAYERS = 1000
"""Largest number of layers of a network, or of one of its stages."""


class Backbone(nn.Module):
    """A speaker network, from filterbanks to an embedding or to logits over the training speakers.

    A subclass passes its sizes to this constructor, builds its layers, and implements `embed_frames`. Its class layer
    is the module `classifier`, which fine-tuning replaces; where layers stand between embedding and `classifier`, it
    implements `classify` too. docs/how-to/extend.md shows an example.

    Parameters
    ----------
    num_speakers
        Outputs of the classifier.
    embedding_dim
        Width of the embedding.
    input_dim
        Filterbanks per frame.
    context_frames
        Fewest frames that have an embedding.

    Raises
    ------
    ConfigError
        A size or another setting of the network is out of range.
    """

    classifier: nn.Module

    def __init__(self, num_speakers: int, embedding_dim: int, input_dim: int, context_frames: int) -> None:
        super().__init__()
        check_sizes(self, num_speakers=num_speakers, embedding_dim=embedding_dim)
        check_sizes(self, input_dim=input_dim, context_frames=context_frames)
        self.num_speakers = num_speakers
        self.embedding_dim = embedding_dim
        self.input_dim = input_dim
        self.context_frames = context_frames

    def embed(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Map features to embeddings of at least float32, under autocast as well; arguments and errors of `forward`.

        Parameters
        ----------
        x
            [batch, frames, input_dim].
        lengths
            int [batch]: number of frames of each recording.

        Returns
        -------
        Tensor
            [batch, embedding_dim].
        """
        embedding: Tensor = self(x, return_embedding=True, lengths=lengths)
        return embedding.to(torch.promote_types(embedding.dtype, torch.float32))

    def forward(self, x: Tensor, return_embedding: bool = False, *, lengths: Tensor | None = None) -> Tensor:
        """Map features to logits, or to embeddings in the network's own precision.

        Parameters
        ----------
        x
            [batch, frames, input_dim].
        return_embedding
            Return embeddings; `embed` does the same.
        lengths
            int [batch]: number of frames of each recording. Later frames are padding, which has no influence: each
            recording gets the embedding that it has alone. By default there is no padding.

        Returns
        -------
        Tensor
            Logits [batch, num_speakers] or embeddings [batch, embedding_dim].

        Raises
        ------
        ShapeError
            `x` has another rank or size, `lengths` does not fit it, `return_embedding` is not a bool, or a network
            with BatchNorm trains on a batch of 1.
        TooShortError
            A recording has fewer than `context_frames` frames.
        """
        if not isinstance(return_embedding, bool):
            raise ShapeError(
                f"{type(self).__name__}: return_embedding must be True or False, not {_described(return_embedding)}; "
                "give the recordings' frame counts by name, as lengths=..."
            )
        padding = self._find_padding(x, lengths)
        embedding = self.embed_frames(x if padding is None else padding.zero(x), padding)
        return embedding if return_embedding else self.classify(embedding)

    def embed_frames(self, x: Tensor, padding: Padding | None) -> Tensor:
        """Map checked features [batch, frames, input_dim], zero in the padding, to embeddings [batch, embedding_dim].

        `padding` is None where every recording fills the batch.
        """
        raise NotImplementedError

    def classify(self, embedding: Tensor) -> Tensor:
        """Map embeddings [batch, embedding_dim] to logits [batch, num_speakers]."""
        return cast(Tensor, self.classifier(embedding))

    def after_step(self) -> None:
        """Constrain the weights after a step of the optimizer; by default, do nothing."""

    def _find_padding(self, x: Tensor, lengths: Tensor | None) -> Padding | None:
        """Check a batch and its lengths; return None where every recording fills the batch."""
        name = type(self).__name__
        if x.dim() != 3 or x.shape[2] != self.input_dim:
            raise ShapeError(f"{name}: expected [batch, frames, {self.input_dim}], got {list(x.shape)}")
        batch, frames, _ = x.shape
        self._check_frames(frames, "the recordings have")
        if self.training and batch < 2 and any(isinstance(module, nn.BatchNorm1d) for module in self.modules()):
            raise ShapeError(f"{name}: a training batch of {batch} has no batch statistics; give at least 2 recordings")
        if lengths is None:
            return None
        if lengths.shape != (batch,) or lengths.is_floating_point():
            raise ShapeError(
                f"{name}: lengths must be {batch} integers, one per recording, "
                f"got {list(lengths.shape)} of {lengths.dtype}"
            )
        counts = lengths.tolist()
        for index, count in enumerate(counts):
            if count > frames:
                raise ShapeError(f"{name}: lengths[{index}] is {count}, but the features hold {frames} frames")
            self._check_frames(count, f"recording {index} of the batch has")
        return None if min(counts, default=frames) == frames else Padding(torch.tensor(counts), frames, x.device)

    def _check_frames(self, frames: int, subject: str) -> None:
        if frames < self.context_frames:
            raise TooShortError(
                f"{type(self).__name__}: {subject} {frames} frames, but the network's context needs at least "
                f"{self.context_frames}; leave them out"
            )


def check_sizes(owner: nn.Module, **sizes: object) -> None:
    """Raise ConfigError, naming `owner`'s class, for the first size that is not a whole number of at least 1."""
    for name, value in sizes.items():
        if not isinstance(value, int) or value < 1:
            raise ConfigError(f"{type(owner).__name__}: {name} is {value!r}; it must be a whole number, at least 1")


def check_depths(owner: nn.Module, depths: object, stages: int) -> None:
    """Raise ConfigError unless `depths` holds a number of layers from 1 to MAX_LAYERS for each stage."""
    listed = depths if isinstance(depths, list | tuple) else []
    if len(listed) != stages or any(not isinstance(depth, int) or not 1 <= depth <= MAX_LAYERS for depth in listed):
        name = type(owner).__name__
        raise ConfigError(
            f"{name}: depths is {depths!r}; it must be a list of {stages} whole numbers, each at least 1 "
            f"and at most {MAX_LAYERS}"
        )


def _described(value: object) -> str:
    return f"a tensor {list(value.shape)}" if isinstance(value, Tensor) else repr(value)
