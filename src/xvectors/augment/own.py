"""Custom augmentations, registered by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from xvectors.config import AUGMENTATIONS
from xvectors.errors import ConfigError

Effect = Callable[[NDArray[np.float32], int, np.random.Generator], NDArray[np.floating[Any]]]
"""(waveform [samples], sample_rate_hz, generator) -> as many finite samples. The generator is the only randomness."""

E = TypeVar("E", bound=Callable[..., Any])


def register_augmentation(name: str) -> Callable[[E], E]:
    """Decorate a function or class to register it as `augment.custom = name` in this process.

    Raises ConfigError unless it can be called with a waveform, its rate and a generator.
    """

    def register(found: E) -> E:
        _effect(found, name)
        AUGMENTATIONS.register(name, found, {})
        return found

    return register


def own_effect(name: str) -> Effect:
    """Return the effect called `name`; a class is built without arguments. Raises ConfigError if that fails."""
    return _effect(AUGMENTATIONS.find(name, {}), name)


def _effect(found: Any, name: str) -> Effect:
    what = f"{AUGMENTATIONS.key}: {name!r}"
    if not callable(found):
        raise ConfigError(f"{what} is not an augmentation: give a function, or a class whose objects can be called")
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
