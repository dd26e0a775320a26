"""Speaker networks by name. In: a name and settings; out: a module from features to logits or embeddings."""

from __future__ import annotations

import inspect
from typing import Any

from xvectors.config import nearest
from xvectors.errors import ConfigError
from xvectors.models.backbone import Backbone
from xvectors.models.pooling import StatisticsPooling
from xvectors.models.tdnn import TDNNLayer
from xvectors.models.xvector import XVector

__all__ = ["MODELS", "Backbone", "StatisticsPooling", "TDNNLayer", "XVector", "build_model"]

MODELS: dict[str, type[Backbone]] = {"xvector": XVector}


def build_model(name: str, **settings: Any) -> Backbone:
    """Build the network called `name` with the keyword arguments of its class.

    Raises ConfigError for an unknown name or setting, naming the nearest known one.
    """
    if name not in MODELS:
        raise ConfigError(f"unknown model {name!r}{nearest(name, MODELS)}")
    known = [key for key in inspect.signature(MODELS[name].__init__).parameters if key != "self"]
    for key in settings:
        if key not in known:
            raise ConfigError(f"model {name!r} has no setting {key!r}{nearest(key, known)}")
    return MODELS[name](**settings)
