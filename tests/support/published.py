"""Checkpoints in the layouts of other toolkits, with formula weights, and what their own classes computed from them.

The golden outputs are written by the tests marked `peers`, from the toolkits' own classes:
`pytest -m peers tests/peers --write-golden`.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from support.formula_weights import formula_tensor
from xvectors.config import Recipe
from xvectors.system.importers import convert
from xvectors.system.importers.family import Imported
from xvectors.system.importers.importing import complete
from xvectors.system.importers.parity import synthetic_voices
from xvectors.system.serialization import make_features, make_model

GOLDEN = Path(__file__).resolve().parents[1] / "system" / "importers" / "golden"
KEPT = 8
"""Values of an embedding that a golden file keeps."""


def golden(family: str) -> dict[str, Any]:
    """Return a golden file: `reference`, `tensors` (name to shape) and `outputs`, one list of values for each voice."""
    content: dict[str, Any] = json.loads((GOLDEN / f"{family}.json").read_text(encoding="utf-8"))
    return content


def formula_checkpoint(shapes: Mapping[str, list[int]], gain: float = 1.0) -> dict[str, Tensor]:
    """Return tensors of these names and shapes, with weights by the formula; matrices and kernels times `gain`."""
    drawn = {name: formula_tensor(name, torch.empty(shape)) for name, shape in shapes.items()}
    return {name: gain * value if value.dim() > 1 else value for name, value in drawn.items()}


def golden_checkpoint(known: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the checkpoint of which a golden file has the outputs."""
    return formula_checkpoint(known["tensors"], known.get("gain", 1.0))


def imported(
    path: Path,
    tensors: Mapping[str, Tensor],
    family: str | None = None,
    *,
    model_config: Mapping[str, Any] | None = None,
    settings: str = "",
) -> Imported:
    """Write the tensors to a checkpoint at `path`, and convert it as `xvectors import` does.

    Parameters
    ----------
    model_config
        Stands beside the weights in the checkpoint.
    settings
        Text of the `config.yaml` beside the checkpoint.
    """
    content = dict(tensors)
    torch.save({"model_config": model_config, "state_dict": content} if model_config else content, path)
    if settings:
        (path.parent / "config.yaml").write_text(settings, encoding="utf-8")
    return convert(path, family).imported


def our_outputs(model: Imported, voices: int = 3) -> list[NDArray[np.float32]]:
    """Embed synthetic voices of 0.5, 1 and 1.6 s with an imported model, from features to embedding."""
    recipe = Recipe(name="imported", features=model.features, model=model.model)
    network = make_model(recipe, 0)
    complete(network, model.weights, "imported")
    with torch.inference_mode():
        return [network.eval().embed(features)[0].numpy() for features in our_features(model, voices)]


def our_features(model: Imported, voices: int = 3) -> list[Tensor]:
    """The features [1, frames, mels] of the first synthetic voices, by the front-end of an imported model."""
    fbank = make_features(Recipe(name="imported", features=model.features, model=model.model))
    waves = _voices(model.features.sample_rate_hz)[:voices]
    return [fbank(torch.from_numpy(wave)) for wave in waves]


@functools.cache
def _voices(sample_rate_hz: int) -> list[NDArray[np.float32]]:
    return synthetic_voices(sample_rate_hz)
