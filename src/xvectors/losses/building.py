"""The table of the losses, and the functions that build one from a recipe."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from xvectors.config import LOSSES, SETTINGS_OF_LOSSES, LossConfig
from xvectors.errors import ConfigError
from xvectors.losses.cosine_head import CosineHead
from xvectors.losses.margin_softmax import AAMSoftmax, AMSoftmax
from xvectors.losses.sphereface2 import SphereFace2
from xvectors.text import nearest

L = TypeVar("L", bound=nn.Module)

SCHEDULE_SETTINGS = ("margin_start", "margin_end", "large_margin")
"""Settings of a recipe's loss that training uses for `set_margin`."""

MARGIN_LOSSES: dict[str, type[CosineHead]] = {
    "am_softmax": AMSoftmax,
    "aam_softmax": AAMSoftmax,
    "sphereface2": SphereFace2,
}
"""The margin losses, by the names that recipes call them; `softmax` is the function `softmax_loss`."""


def build_loss(name: str, embedding_dim: int, num_classes: int, **settings: Any) -> CosineHead:
    """Build the head of a margin loss by name, with the keyword arguments of its class.

    Raises
    ------
    ConfigError
        The name or a setting is unknown, or a value is out of range.
    """
    if name not in MARGIN_LOSSES:
        raise ConfigError(f"unknown loss {name!r}{nearest(name, MARGIN_LOSSES)}")
    parameters = inspect.signature(MARGIN_LOSSES[name].__init__).parameters.values()
    known = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    for key in settings:
        if key not in known:
            raise ConfigError(f"loss {name!r} has no setting {key!r}{nearest(key, known)}")
    head: Callable[..., CosineHead] = MARGIN_LOSSES[name]
    return head(embedding_dim, num_classes, **settings)


def register_loss(name: str) -> Callable[[type[L]], type[L]]:
    """Register the decorated class under a name for `loss.name`, in this process (see docs/how-to/extend.md).

    Raises
    ------
    ConfigError
        The name is built in, or the class is not a torch module.
    """

    def register(cls: type[L]) -> type[L]:
        LOSSES.register(name, _checked_loss(cls, name), {"softmax": None, **MARGIN_LOSSES})
        return cls

    return register


def make_head(config: LossConfig, embedding_dim: int, num_classes: int) -> nn.Module:
    """Build the head of a recipe's loss, called as `loss, logits = head(embeddings, labels)`.

    A loss from outside xvectors gets its own settings, and those settings of the margin losses that its constructor
    takes. It is tried on noise.

    Raises
    ------
    ConfigError
        The loss is unknown, cannot be built, or does not return a scalar and logits.
    """
    settings = {each.name: getattr(config, each.name) for each in fields(config)}
    for key in ("name", "settings", *SCHEDULE_SETTINGS):
        del settings[key]
    if config.name in MARGIN_LOSSES:
        own = {key: value for key, value in settings.items() if key in SETTINGS_OF_LOSSES[config.name]}
        return build_loss(config.name, embedding_dim, num_classes, **own)
    what = f"{LOSSES.key} = {config.name!r}"
    cls = _checked_loss(LOSSES.find(config.name, MARGIN_LOSSES), config.name)
    parameters = inspect.signature(cls).parameters
    takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    defaults = LossConfig()
    given = {key: value for key, value in settings.items() if key in parameters}
    given |= config.settings
    unused = [key for key in settings if key not in parameters and settings[key] != getattr(defaults, key)]
    for key in [*unused, *config.settings]:
        if key not in parameters and not takes_any:
            raise ConfigError(f"{what} has no setting {key!r}{nearest(key, list(parameters)[2:])}")
    try:
        inspect.signature(cls).bind(embedding_dim, num_classes, **given)
    except TypeError as error:
        raise ConfigError(
            f"{what} cannot be built as {cls.__name__}(embedding_dim, num_classes, ...): {error}"
        ) from error
    head = cls(embedding_dim, num_classes, **given)
    _try(head, embedding_dim, num_classes, what)
    return head


def _checked_loss(found: Any, name: str) -> type[nn.Module]:
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise ConfigError(f"{LOSSES.key} = {name!r} is not a loss: it must be a class derived from torch.nn.Module")
    return found


@torch.no_grad()
def _try(head: nn.Module, embedding_dim: int, num_classes: int, what: str) -> None:
    embeddings = torch.randn(2, embedding_dim, generator=torch.Generator().manual_seed(0))
    result = head(embeddings, torch.tensor([0, num_classes - 1]))
    if not (isinstance(result, tuple) and len(result) == 2 and all(isinstance(each, Tensor) for each in result)):
        raise ConfigError(f"{what}: its forward(embeddings, labels) must return two tensors, the loss and the logits")
    loss, logits = result
    if loss.dim() or not loss.is_floating_point() or list(logits.shape) != [2, num_classes]:
        raise ConfigError(
            f"{what}: its forward must return a scalar loss and logits [batch, {num_classes}]; for 2 embeddings it "
            f"gave {list(loss.shape)} of {loss.dtype} and {list(logits.shape)}"
        )
