"""Compare the size and cost of the networks with what their papers publish."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch

from xvectors import models
from xvectors.models.published import PUBLISHED

FRAMES_PER_S = 100


@dataclass(frozen=True, kw_only=True)
class NetworkSize:
    """Size and cost of one published network.

    Parameters are counted up to the embedding. `published_parameters_m` is the paper's number in millions, None if it
    has none, and `published_mels` the number of filterbanks of the paper's network. `parameters` and `flop`, the
    floating-point operations of one embedding, are those with the filterbanks asked for.
    """

    name: str
    settings: dict[str, Any]
    paper: str
    embedding_dim: int
    published_parameters_m: float | None
    published_mels: int
    parameters_at_published_mels: int
    parameters: int
    flop: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def network_sizes(num_mels: int, seconds: float) -> list[NetworkSize]:
    """Count the parameters of each published network, and the operations for a recording of `seconds`."""
    sizes = []
    for row in PUBLISHED:
        with torch.device("meta"):
            published, model = (
                models.build_model(row.model, num_speakers=2, input_dim=input_dim, **row.settings)
                for input_dim in (row.num_mels, num_mels)
            )
        at_published = models.count_parameters(published)
        sizes.append(
            NetworkSize(
                name=row.model,
                settings=dict(row.settings),
                paper=row.paper,
                embedding_dim=model.embedding_dim,
                published_parameters_m=row.size_m,
                published_mels=row.num_mels,
                parameters_at_published_mels=at_published,
                parameters=at_published if row.num_mels == num_mels else models.count_parameters(model),
                flop=models.count_flops(model, round(FRAMES_PER_S * seconds)),
            )
        )
    return sizes
