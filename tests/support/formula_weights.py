"""Weights of any network, drawn by the names of its tensors, so that two programs make the same ones."""

from __future__ import annotations

import zlib

import numpy as np
import torch
from torch import Tensor, nn


def formula_tensor(name: str, like: Tensor) -> Tensor:
    """Draw a tensor of the shape of `like`: numpy's PCG64 seeded by the CRC-32 of the name.

    Variances are uniform in [0.5, 1.5], scales of norms (`weight` of one axis) in [0.8, 1.2], other tensors of one axis
    normal with deviation 0.1, and matrices normal with the deviation of He's initialization.
    """
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    shape = tuple(like.shape)
    if not like.is_floating_point():
        return torch.zeros_like(like)
    if name.endswith("running_var"):
        values = rng.uniform(0.5, 1.5, shape)
    elif len(shape) < 2:
        values = rng.uniform(0.8, 1.2, shape) if name.endswith("weight") else 0.1 * rng.standard_normal(shape)
    else:
        values = rng.standard_normal(shape) * (2.0 / max(1, int(np.prod(shape[1:])))) ** 0.5
    return torch.from_numpy(np.asarray(values)).to(like.dtype)


def formula_state(model: nn.Module) -> dict[str, Tensor]:
    """Return a state dict for `model` by the formula."""
    return {name: formula_tensor(name, value) for name, value in model.state_dict().items()}
