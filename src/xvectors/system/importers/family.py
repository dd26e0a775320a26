"""What an importer offers: how to recognize a family of published models, and how to convert one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from xvectors.config import FeaturesConfig, ModelConfig

if TYPE_CHECKING:
    from xvectors.backends import Backend


@dataclass(frozen=True, kw_only=True)
class Source:
    """A published model as it was found: tensors by name, and what stands beside them."""

    path: Path
    """The file of the weights; others may lie beside it."""
    tensors: Mapping[str, Tensor]
    """Empty for a file that is not a checkpoint of torch, which `matches` recognizes by its content."""
    extras: Mapping[str, Any] = field(default_factory=dict)
    """Plain values in the checkpoint beside the weights."""


@dataclass(frozen=True, kw_only=True)
class Imported:
    """A published model in our terms."""

    features: FeaturesConfig
    model: ModelConfig
    weights: Mapping[str, Tensor]
    """The network's state dict without the tensors of `classifier`; counters of BatchNorm may be left out."""
    backend: Backend | None = None
    figures: Mapping[str, str] = field(default_factory=dict)
    """Published error rates, each with the page where it stands: {"VoxCeleb1-O EER": "0.66 %, WeSpeaker's README"}."""
    notes: tuple[str, ...] = ()
    """What differs from the published system, in sentences."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """A kind of published model."""

    name: str
    """The value of `--family`, such as `wespeaker-resnet`."""
    title: str
    matches: Callable[[Source], bool]
    """Whether the names of the tensors are those of this family."""
    convert: Callable[[Source], Imported]
    """Raises CheckpointError that names missing tensors and wrong shapes."""
    seen: bool
    """Whether weights that the family's toolkit published were imported and compared, or only its classes with other
    weights."""
    is_checkpoint: bool = True
    """Whether its file is a checkpoint of torch or safetensors; otherwise `convert` reads the file itself."""
    reference: str = ""
    """The installable package with the family's own code."""
    reference_network: Callable[[Source], Callable[[Tensor], Tensor | tuple[Tensor, ...]]] | None = None
    """Builds the family's own class with the weights, which maps features [1, frames, mels] to an embedding; it imports
    `reference`. Where it returns several outputs, the last is the embedding."""


def has(source: Source, *names: str) -> bool:
    """Whether the checkpoint has a tensor of each of these names."""
    return all(name in source.tensors for name in names)
