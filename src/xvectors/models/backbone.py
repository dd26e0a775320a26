"""What every speaker network offers, whatever it is made of. In: filterbanks; out: speaker logits or embeddings."""

from __future__ import annotations

from torch import nn


class Backbone(nn.Module):
    """A network called as `model(x, lengths=None, return_embedding=False)`.

    `x` is [batch, frames, input_dim]; the result is logits [batch, num_speakers], or embeddings
    [batch, embedding_dim]. With `lengths` [batch] each recording of a padded batch gets the embedding it has alone.
    Fewer frames than `context_frames` raise TooShortError.
    """

    input_dim: int
    embedding_dim: int
    num_speakers: int
    context_frames: int

    def after_step(self) -> None:
        """Called after each step of the optimiser, for networks whose weights stay in a set; here nothing."""
