"""Speaker networks, from filterbanks to embeddings: a table of them by name, and the functions that build one."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, get_type_hints

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from xvectors.config import BACKBONES
from xvectors.config.tables import KINDS, check_value
from xvectors.errors import ConfigError
from xvectors.models.backbone import Backbone
from xvectors.models.campplus import CAMPlusPlus
from xvectors.models.ecapa import ECAPA
from xvectors.models.embedding_map import EmbeddingMap
from xvectors.models.eres2net import ERes2NetV2
from xvectors.models.etdnn import ETDNN
from xvectors.models.explaining import NOT_SETTINGS, settings_of_model
from xvectors.models.extending import build_checked, check_backbone
from xvectors.models.ftdnn import FTDNN
from xvectors.models.layers.padding import Padding
from xvectors.models.layers.pooling import POOLINGS, StatisticsPooling, make_pooling
from xvectors.models.layers.tdnn import TDNNLayer
from xvectors.models.lstm import GE2ELSTM
from xvectors.models.preact_resnet import PreActResNet
from xvectors.models.published import PUBLISHED, Published
from xvectors.models.redimnet import ReDimNet, ReDimNet2
from xvectors.models.resnet import BottleneckResNet, ResNet34, SimAMResNet, ThinResNet
from xvectors.models.xvector import XVector
from xvectors.text import nearest

__all__ = [
    "ECAPA",
    "ETDNN",
    "FTDNN",
    "GE2ELSTM",
    "MODELS",
    "POOLINGS",
    "PUBLISHED",
    "Backbone",
    "BottleneckResNet",
    "CAMPlusPlus",
    "ERes2NetV2",
    "EmbeddingMap",
    "Padding",
    "PreActResNet",
    "Published",
    "ReDimNet",
    "ReDimNet2",
    "ResNet34",
    "SimAMResNet",
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
    "bottleneck_resnet": BottleneckResNet,
    "simam_resnet": SimAMResNet,
    "preact_resnet": PreActResNet,
    "eres2netv2": ERes2NetV2,
    "redimnet": ReDimNet,
    "redimnet2": ReDimNet2,
    "lstm": GE2ELSTM,
}
"""The built-in networks, by the names that recipes call them. `PUBLISHED` has their papers and sizes."""

MAX_SETTING = 65_536
"""Largest number in the settings of a built-in network; a larger network would not fit into memory."""

B = TypeVar("B", bound=Backbone)


def find_backbone(name: str) -> type[Backbone]:
    """Return the class of a network.

    Parameters
    ----------
    name
        A key of `MODELS`, a registered name, an entry point of an installed package, or `module:Name`.

    Raises
    ------
    ConfigError
        The name is unknown, its package is not trusted (see `xvectors.trust`), or it is not a Backbone.
    """
    return MODELS[name] if name in MODELS else check_backbone(BACKBONES.find(name, MODELS), name)


def register_backbone(name: str) -> Callable[[type[B]], type[B]]:
    """Register the decorated class under a name for `model.name`, in this process.

    Raises
    ------
    ConfigError
        The name is in `MODELS`, or the class is not a Backbone.

    Examples
    --------
    >>> @register_backbone("tiny")                                             # doctest: +SKIP
    ... class Tiny(Backbone): ...
    """

    def register(cls: type[B]) -> type[B]:
        check_backbone(cls, name)
        BACKBONES.register(name, cls, MODELS)
        return cls

    return register


def build_model(name: str, **settings: Any) -> Backbone:
    """Build a network by name, with the keyword arguments of its class.

    Raises
    ------
    ConfigError
        The name or a setting is unknown, or a value is impossible.
    """
    backbone = find_backbone(name)
    kinds = get_type_hints(backbone.__init__)
    parameters = inspect.signature(backbone).parameters
    takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    for key, value in settings.items():
        if key not in parameters and not takes_any:
            raise ConfigError(f"model {name!r} has no setting {key!r}{nearest(key, parameters)}")
        kind = kinds.get(key)
        if kind in KINDS:
            check_value(value, kind, f"model.{key}")
        is_number = name in MODELS and key not in NOT_SETTINGS and kind in (int, float)
        if is_number and not -MAX_SETTING <= value <= MAX_SETTING:
            raise ConfigError(f"model.{key} = {value!r} must be at most {MAX_SETTING:,}")
    return backbone(**settings) if name in MODELS else build_checked(backbone, name, settings)


def count_parameters(model: Backbone) -> int:
    """Count the parameters that the embedding depends on, which excludes the classifier and the layers before it."""
    # on the CPU, because torch computes on the meta device in Python, which takes seconds for a deep network
    shadow = copy.deepcopy(model).to_empty(device="cpu").eval()
    with torch.no_grad():
        for tensor in (*shadow.parameters(), *shadow.buffers()):
            tensor.zero_()
    return sum(
        tensor.numel() for tensor in _leaves(shadow.embed(torch.zeros(1, model.context_frames, model.input_dim)))
    )


def _leaves(output: Tensor) -> list[Tensor]:
    """Return the tensors with a gradient that `output` was computed from."""
    waiting, seen, leaves = [output.grad_fn], set(), []
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if (leaf := getattr(node, "variable", None)) is not None:  # AccumulateGrad, which ends the graph
            leaves.append(leaf)
        waiting += [before for before, _ in node.next_functions]
    return leaves


def _unchanged(x: Tensor, padding: Padding | None = None) -> Tensor:
    return x


def count_flops(model: Backbone, num_frames: int) -> int:
    """Count the floating-point operations of one embedding of `num_frames` frames, twice the multiply-adds.

    Matrix products and convolutions count; the classifier does not. The network is run without data, so that nothing
    is computed.

    Raises
    ------
    TooShortError
        There are fewer frames than `model.context_frames`.
    """
    shadow = copy.deepcopy(model).to("meta").eval()
    for module in shadow.modules():
        if isinstance(module, nn.BatchNorm1d):  # no products to count, and slow on the meta device
            module.forward = _unchanged  # type: ignore[assignment, method-assign]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        shadow.embed(torch.zeros(1, num_frames, model.input_dim, device="meta"))
    return int(counter.get_total_flops())
