"""Speaker networks by name. In: a name and settings; out: a module from features to logits or embeddings."""

from __future__ import annotations

import difflib
import inspect
from typing import Any

from torch import nn

from xvectors.errors import ConfigError
from xvectors.models.pooling import StatisticsPooling
from xvectors.models.tdnn import TDNNLayer
from xvectors.models.xvector import XVector

__all__ = ["MODELS", "StatisticsPooling", "TDNNLayer", "XVector", "build_model"]

MODELS: dict[str, type[nn.Module]] = {"xvector": XVector}


def build_model(name: str, **settings: Any) -> nn.Module:
    """Build the network called `name` with the keyword arguments of its class.

    Raises ConfigError for an unknown name or setting, naming the nearest known one.
    """
    if name not in MODELS:
        raise ConfigError(f"unknown model {name!r}{_nearest(name, list(MODELS))}")
    known = [key for key in inspect.signature(MODELS[name].__init__).parameters if key != "self"]
    for key in settings:
        if key not in known:
            raise ConfigError(f"model {name!r} has no setting {key!r}{_nearest(key, known)}")
    return MODELS[name](**settings)


def _nearest(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    meant = f"did you mean {close[0]!r}? Known" if close else "known"
    return f"; {meant}: {', '.join(known)}"
