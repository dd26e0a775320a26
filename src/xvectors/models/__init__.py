"""Speaker networks by name. In: a name and settings; out: a module from features to logits or embeddings."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, get_type_hints

import torch
from torch.utils.flop_counter import FlopCounterMode

from xvectors.config import BACKBONES
from xvectors.errors import ConfigError
from xvectors.models.backbone import Backbone
from xvectors.models.campplus import CAMPlusPlus
from xvectors.models.ecapa import ECAPA
from xvectors.models.embedding_map import EmbeddingMap
from xvectors.models.etdnn import ETDNN
from xvectors.models.explaining import settings_of_model
from xvectors.models.extending import build_checked, check_backbone
from xvectors.models.ftdnn import FTDNN
from xvectors.models.pooling import POOLINGS, StatisticsPooling, make_pooling
from xvectors.models.published import PUBLISHED, Published
from xvectors.models.resnet import ResNet34, ThinResNet
from xvectors.models.tdnn import TDNNLayer
from xvectors.models.xvector import XVector
from xvectors.text import nearest

__all__ = [
    "ECAPA",
    "ETDNN",
    "FTDNN",
    "MODELS",
    "POOLINGS",
    "PUBLISHED",
    "Backbone",
    "CAMPlusPlus",
    "EmbeddingMap",
    "Published",
    "ResNet34",
    "StatisticsPooling",
    "TDNNLayer",
    "ThinResNet",
    "XVector",
    "build_model",
    "count_flops",
    "count_parameters",
    "find_backbone",
    "make_pooling",
    "register_backbone",
    "settings_of_model",
]

MODELS: dict[str, type[Backbone]] = {
    "xvector": XVector,
    "etdnn": ETDNN,
    "ftdnn": FTDNN,
    "ecapa": ECAPA,
    "resnet34": ResNet34,
    "thin_resnet": ThinResNet,
    "campplus": CAMPlusPlus,
}


B = TypeVar("B", bound=Backbone)

MOST = 65_536
"""No width of a layer, nor another number of ours, goes beyond: memory would not hold the network."""
NOT_SET_HERE = ("num_speakers", "input_dim")
"""The corpus's and the features' to say."""
WANTED: dict[Any, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "a string"}


def find_backbone(name: str) -> type[Backbone]:
    """The class of the network called `name`: one of `MODELS`, a registered one, an installed package's, module:Name.

    Raises ConfigError for an unknown one, naming the nearest; for module:Name of a package that is not trusted (see
    `xvectors.trust`), and for what is no Backbone.
    """
    found = BACKBONES.find(name, MODELS)
    return MODELS[name] if name in MODELS else check_backbone(found, name)


def register_backbone(name: str) -> Callable[[type[B]], type[B]]:
    """Decorator: let `model.name = name` stand for this class in this process.

    >>> @register_backbone("tiny")                                             # doctest: +SKIP
    ... class Tiny(Backbone): ...

    Raises ConfigError for a name of `MODELS`, and for a class that is no Backbone.
    """

    def register(cls: type[B]) -> type[B]:
        check_backbone(cls, name)
        BACKBONES.register(name, cls, MODELS)
        return cls

    return register


def build_model(name: str, **settings: Any) -> Backbone:
    """Build the network called `name` with the keyword arguments of its class.

    Raises ConfigError for an unknown name or setting, naming the nearest known one.
    """
    backbone = find_backbone(name)
    kinds = get_type_hints(backbone.__init__)
    parameters = inspect.signature(backbone).parameters
    takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    for key, value in settings.items():
        if key not in parameters and not takes_any:
            raise ConfigError(f"model {name!r} has no setting {key!r}{nearest(key, parameters)}")
        kind = kinds.get(key)
        fits = type(value) is kind or (kind is float and type(value) is int)
        if kind in WANTED and not fits:
            raise ConfigError(f"model.{key} must be {WANTED[kind]}, not {value!r}")
        if name in MODELS and key not in NOT_SET_HERE and kind in (int, float) and not -MOST <= value <= MOST:
            raise ConfigError(f"model.{key} = {value!r} must be at most {MOST:,}")
    return backbone(**settings) if name in MODELS else build_checked(backbone, name, settings)


def count_parameters(model: Backbone) -> int:
    """Parameters that an embedding depends on: no classifier, and no layers between the embedding and it."""
    shadow = copy.deepcopy(model).to("meta").eval()
    frames = torch.zeros(1, model.context_frames, model.input_dim, device="meta")
    shadow(frames, return_embedding=True).sum().backward()
    return sum(parameter.numel() for parameter in shadow.parameters() if parameter.grad is not None)


def count_flops(model: Backbone, num_frames: int) -> int:
    """Floating-point operations of one embedding from `num_frames` frames: twice the multiply-adds of its layers.

    Matrix products and convolutions count, the classifier does not. Torch's FlopCounterMode counts them on a copy
    without data, so that nothing is computed. Raises TooShortError for fewer frames than `model.context_frames`.
    """
    shadow = copy.deepcopy(model).to("meta").eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        shadow(torch.zeros(1, num_frames, model.input_dim, device="meta"), return_embedding=True)
    return int(counter.get_total_flops())
