"""Resemblyzer's voice encoder: the LSTM of GE2E."""

from __future__ import annotations

import importlib
import re
from typing import cast

import torch
from torch import Tensor

from xvectors.config import ModelConfig
from xvectors.errors import CheckpointError
from xvectors.features.toolkits import RESEMBLYZER
from xvectors.system.importers.family import Family, Imported, Source, has
from xvectors.system.importers.tensors import Tensors, stages

GATES = 4
VAD_NOTE = (
    "Resemblyzer raises the level of the whole recording and cuts it with webrtcvad before it embeds; here the VAD of "
    "xvectors cuts first, and the level is that of the speech"
)


def _matches(source: Source) -> bool:
    parts = ("lstm.", "linear.", "similarity_")
    return has(source, "lstm.weight_ih_l0", "linear.weight") and all(name.startswith(parts) for name in source.tensors)


def _convert(source: Source) -> Imported:
    tensors = Tensors(source)
    depth = stages(source, r"lstm\.weight_ih_l(\d+)$")
    first = tensors.take("lstm.weight_ih_l0", dims=2)
    for layer in range(max(1, depth)):
        for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            name = f"lstm.{kind}_l{layer}"
            tensors.put(name, tensors.take(name))
    tensors.linear("linear", "linear")
    weights = tensors.finish(ignored=("similarity_",))
    if any(re.match(r"lstm\..*_reverse$", name) for name in source.tensors) or first.shape[1] != RESEMBLYZER.num_mels:
        raise CheckpointError(
            f"{source.path}: its LSTM is not Resemblyzer's, which reads {RESEMBLYZER.num_mels} filterbanks in one "
            f"direction; this one reads {first.shape[1]}"
        )
    settings: dict[str, bool | int | float | str | list[int]] = {
        "embedding_dim": len(weights["linear.bias"]),
        "width": first.shape[0] // GATES,
        "depth": depth,
        "tail_frames": RESEMBLYZER.extra_frames,
    }
    return Imported(
        features=RESEMBLYZER, model=ModelConfig(name="lstm", settings=settings), weights=weights, notes=(VAD_NOTE,)
    )


class _Windows:
    """The reference's network over the windows that its own function finds, from features with two frames more."""

    def __init__(self, source: Source) -> None:
        module = importlib.import_module("resemblyzer.voice_encoder")
        self.encoder = module.VoiceEncoder("cpu", verbose=False, weights_fpath=source.path)

    def __call__(self, features: Tensor) -> Tensor:
        frames = features.shape[1] - RESEMBLYZER.extra_frames
        slices = self.encoder.compute_partial_slices(160 * frames - 1, rate=1.3, min_coverage=0.75)[1]
        extended = torch.nn.functional.pad(features[0], (0, 0, 0, slices[-1].stop))
        mean = self.encoder(torch.stack([extended[each] for each in slices])).mean(dim=0)
        return cast(Tensor, mean / mean.norm())


FAMILIES = (
    Family(
        name="resemblyzer",
        title="Resemblyzer",
        matches=_matches,
        convert=_convert,
        seen=True,
        reference="Resemblyzer",
        reference_network=_Windows,
    ),
)
