"""Backbones of one's own. In: a class from outside xvectors. Out: its network, held to what `Backbone` promises."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from xvectors.config import BACKBONES
from xvectors.errors import ConfigError
from xvectors.models.backbone import Backbone

SIZES = ("input_dim", "embedding_dim", "num_speakers", "context_frames")
TOLERANCE = 1e-3
"""Largest difference, relative to the embedding's length, that padding may make: float32 in another order, no more."""


def check_backbone(found: Any, name: str) -> type[Backbone]:
    """`found` as a Backbone's class; ConfigError where it is none, or cannot be built from a recipe."""
    if not (isinstance(found, type) and issubclass(found, Backbone)):
        raise ConfigError(
            f"{BACKBONES.key} = {name!r} is no backbone: it must be a class derived from xvectors.models.Backbone"
        )
    parameters = inspect.signature(found).parameters
    takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    missing = [] if takes_any else [key for key in ("num_speakers", "input_dim") if key not in parameters]
    if missing:
        raise ConfigError(
            f"{BACKBONES.key} = {name!r}: its constructor must take the arguments num_speakers and input_dim; it lacks "
            f"{' and '.join(missing)}"
        )
    return found


def build_checked(cls: type[Backbone], name: str, settings: dict[str, Any]) -> Backbone:
    """The network with these settings, tried on noise: ConfigError for what a Backbone must not do."""
    try:
        inspect.signature(cls).bind(**settings)
    except TypeError as error:
        raise ConfigError(f"{BACKBONES.key} = {name!r} cannot be built: {error}") from error
    model = cls(**settings)
    what = f"{BACKBONES.key} = {name!r}"
    for size in SIZES:
        if not isinstance(getattr(model, size, None), int):
            raise ConfigError(f"{what}: the network must say its {size}, a whole number; set self.{size}")
    for size in ("input_dim", "num_speakers"):
        if getattr(model, size) != settings[size]:
            raise ConfigError(f"{what}: its {size} is {getattr(model, size)} where {settings[size]} was asked for")
    if not isinstance(getattr(model, "classifier", None), nn.Module):
        raise ConfigError(f"{what}: the network must have its class layer as the module self.classifier")
    if all(not each.is_meta for each in model.parameters()):
        was_training = model.training
        _check_passes(model.eval(), what)
        model.train(was_training)
    return model


@torch.no_grad()
def _check_passes(model: Backbone, what: str) -> None:
    frames = model.context_frames + 6
    x = torch.randn(2, frames, model.input_dim, generator=torch.Generator().manual_seed(0))

    def passed(width: int, call: Callable[[], Tensor], wanted: str) -> Tensor:
        result = call()
        if not isinstance(result, Tensor) or list(result.shape) != [2, width]:
            got = list(result.shape) if isinstance(result, Tensor) else type(result).__name__
            raise ConfigError(f"{what}: its {wanted} [batch, {width}]; of 2 recordings it gave {got}")
        return result

    lengths = torch.tensor([frames - 4, frames])
    passed(model.embedding_dim, lambda: model(x, return_embedding=True), "embed_batch must give embeddings")
    together = passed(
        model.embedding_dim,
        lambda: model(x, return_embedding=True, lengths=lengths),
        "embed_batch must give, with lengths, embeddings",
    )
    passed(model.num_speakers, lambda: model(x), "classify must give logits")
    alone = model(x[:1, : frames - 4], return_embedding=True)
    difference = float((together[0] - alone[0]).norm() / alone[0].norm().clamp(min=1e-12))
    if not difference <= TOLERANCE:
        raise ConfigError(
            f"{what}: a recording padded in a batch must have the embedding that it has alone, and differs by "
            f"{difference:.1%}; frames from `lengths` on must not count"
        )
