"""What every speaker network offers, whatever it is made of. In: filterbanks; out: speaker logits or embeddings."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from xvectors.errors import ShapeError

MOST_LAYERS = 1000
"""Of a network, or of a stage of one."""


class Backbone(nn.Module):
    """A network called as `model(x, return_embedding=False, *, lengths=None)`.

    A network implements `embed_batch`, and `classify` where layers stand between its embedding and its `classifier`.
    The class layer is the module `classifier`, which fine-tuning replaces. docs/how-to/extend.md says how to write one.
    """

    input_dim: int
    embedding_dim: int
    num_speakers: int
    context_frames: int
    classifier: nn.Module

    def forward(self, x: Tensor, return_embedding: bool = False, *, lengths: Tensor | None = None) -> Tensor:
        """Map [batch, frames, input_dim] to logits [batch, num_speakers] or embeddings [batch, embedding_dim].

        `lengths` [batch] counts each recording's own frames; the others have no influence, so that each recording of a
        padded batch gets the embedding it has alone.

        Raises ShapeError for another rank or size, lengths that do not fit, a training batch of 1 where the network
        has BatchNorm, or a `return_embedding` that is not True or False; TooShortError for fewer frames than
        `context_frames`.
        """
        if not isinstance(return_embedding, bool):
            raise ShapeError(
                f"{type(self).__name__}: return_embedding must be True or False, not {_kind(return_embedding)}; "
                "give the recordings' frame counts by name, as lengths=..."
            )
        embedding = self.embed_batch(x, lengths)
        return embedding if return_embedding else self.classify(embedding)

    def embed_batch(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """Map [batch, frames, input_dim] to embeddings [batch, embedding_dim]; arguments and errors of `forward`."""
        raise NotImplementedError

    def classify(self, embedding: Tensor) -> Tensor:
        """Map embeddings [batch, embedding_dim] to logits [batch, num_speakers]."""
        return cast(Tensor, self.classifier(embedding))

    def after_step(self) -> None:
        """Called after each step of the optimizer, for networks whose weights stay in a set; here nothing."""


def _kind(value: object) -> str:
    return f"a tensor {list(value.shape)}" if isinstance(value, Tensor) else repr(value)
