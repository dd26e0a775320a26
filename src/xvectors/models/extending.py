"""Backbones from outside xvectors: check a class, and that the network it builds keeps the promises of `Backbone`."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from xvectors.config import BACKBONES
from xvectors.errors import ConfigError
from xvectors.models.backbone import Backbone
from xvectors.models.explaining import NOT_SETTINGS

TOLERANCE = 1e-3
"""Largest change of an embedding by padding, relative to its length; sums in another order change float32 by less."""


def check_backbone(found: Any, name: str) -> type[Backbone]:
    """Return `found` if it is a Backbone class that a recipe can build; raise ConfigError otherwise."""
    if not (isinstance(found, type) and issubclass(found, Backbone)):
        raise ConfigError(
            f"{BACKBONES.key} = {name!r} is not a backbone: it must be a class derived from xvectors.models.Backbone"
        )
    parameters = inspect.signature(found).parameters
    takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    missing = [] if takes_any else [key for key in NOT_SETTINGS if key not in parameters]
    if missing:
        raise ConfigError(
            f"{BACKBONES.key} = {name!r}: its constructor must take the arguments {' and '.join(NOT_SETTINGS)}; it "
            f"lacks {' and '.join(missing)}"
        )
    return found


def build_checked(cls: type[Backbone], name: str, settings: dict[str, Any]) -> Backbone:
    """Build a network and try it on noise; raise ConfigError where it breaks a promise of `Backbone`."""
    what = f"{BACKBONES.key} = {name!r}"
    try:
        inspect.signature(cls).bind(**settings)
    except TypeError as error:
        raise ConfigError(f"{what} cannot be built: {error}") from error
    model = cls(**settings)
    for size in NOT_SETTINGS:
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
    lengths = torch.tensor([frames - 4, frames])
    x = torch.randn(2, frames, model.input_dim, generator=torch.Generator().manual_seed(0))

    def check(result: object, width: int, wanted: str) -> Tensor:
        if isinstance(result, Tensor) and list(result.shape) == [2, width]:
            return result
        got = list(result.shape) if isinstance(result, Tensor) else type(result).__name__
        raise ConfigError(f"{what}: its {wanted} [batch, {width}]; for 2 recordings it gave {got}")

    check(model(x, return_embedding=True), model.embedding_dim, "embed_frames must give embeddings")
    together = check(
        model(x, return_embedding=True, lengths=lengths),
        model.embedding_dim,
        "embed_frames must give, with padding, embeddings",
    )
    check(model(x), model.num_speakers, "classify must give logits")
    alone = model(x[:1, : frames - 4], return_embedding=True)
    difference = float((together[0] - alone[0]).norm() / alone[0].norm().clamp(min=1e-12))
    if not difference <= TOLERANCE:
        raise ConfigError(
            f"{what}: a recording padded in a batch must have the embedding that it has alone, and differs by "
            f"{difference:.1%}; leave out the frames that `padding` marks"
        )
