"""Augmentations of one's own. In: a name in a recipe. Out: effect(waveform, rate, generator)."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from xvectors.config import AUGMENTATIONS
from xvectors.errors import ConfigError

Effect = Callable[[NDArray[np.float32], int, np.random.Generator], NDArray[np.floating[Any]]]
"""(waveform [samples], sample_rate_hz, generator) -> as many samples, finite; all chance comes from the generator."""

E = TypeVar("E", bound=Callable[..., Any])


def register_augmentation(name: str) -> Callable[[E], E]:
    """Decorator: let `augment.custom = name` stand for this function or class in this process.

    Raises ConfigError for what cannot be called with a waveform, its rate and a generator.
    """

    def register(found: E) -> E:
        _effect(found, name)
        AUGMENTATIONS.register(name, found, {})
        return found

    return register


def own_effect(name: str) -> Effect:
    """The effect called `name`; a class is built without arguments. ConfigError says why there is none."""
    return _effect(AUGMENTATIONS.find(name, {}), name)


def _effect(found: Any, name: str) -> Effect:
    what = f"{AUGMENTATIONS.key}: {name!r}"
    if not callable(found):
        raise ConfigError(f"{what} is no augmentation: it must be a function or a class whose objects can be called")
    try:
        if isinstance(found, type):
            inspect.signature(found).bind()
            found = found()
        effect: Effect = found
        inspect.signature(effect).bind(None, 16_000, None)
    except TypeError as error:
        raise ConfigError(
            f"{what} must be called as effect(waveform, sample_rate_hz, generator), a class built without arguments: "
            f"{error}"
        ) from error
    return effect
