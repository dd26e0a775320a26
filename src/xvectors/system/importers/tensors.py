"""Moving tensors from another toolkit's names and layouts to ours, and naming those that are missing or left over."""

from __future__ import annotations

import re
from collections.abc import Iterable

import torch
from torch import Tensor

from xvectors.errors import CheckpointError
from xvectors.system.importers.family import Source
from xvectors.text import count, first_few

MAX_NAMED = 50
"""Number of missing tensors that an error names."""
NORM = ("weight", "bias", "running_mean", "running_var")


class Tensors:
    """The tensors of a checkpoint; each that is taken is ticked off, and `finish` names what is missing or left over.

    Parameters
    ----------
    source
        The checkpoint.
    prefix
        Part of every name that the methods leave out, such as `resnet.`.

    Examples
    --------
    >>> tensors = Tensors(source)                                              # doctest: +SKIP
    >>> tensors.map_conv("conv1", "first"), tensors.norm("bn1", "first_norm")  # doctest: +SKIP
    >>> weights = tensors.finish(ignored=("projection.",))                     # doctest: +SKIP
    """

    def __init__(self, source: Source, prefix: str = "") -> None:
        self.source, self.prefix = source, prefix
        self.weights: dict[str, Tensor] = {}
        self.taken: set[str] = set()
        self.missing: list[str] = []

    def __contains__(self, name: str) -> bool:
        return self.prefix + name in self.source.tensors

    def take(self, name: str, *, dims: int | None = None) -> Tensor:
        """Return a tensor; one that is missing is noted, and an empty one is returned.

        Raises CheckpointError for another number of axes than `dims`.
        """
        full = self.prefix + name
        if full not in self.source.tensors:
            self.missing.append(full)
            return torch.empty([0] * (dims or 1))
        self.taken.add(full)
        tensor = self.source.tensors[full]
        if dims is not None and tensor.dim() != dims:
            raise CheckpointError(f"{self.source.path}: {full} is {list(tensor.shape)}, where {dims} axes are expected")
        return tensor

    def put(self, name: str, value: Tensor) -> None:
        """Store one of our tensors."""
        self.weights[name] = value.contiguous()

    def put_stacked(self, name: str, taps: list[Tensor]) -> None:
        """Store a convolution over [frames, bands] with one band, from its taps [outputs, inputs]."""
        self.put(name, torch.stack(taps, dim=2).unsqueeze(3))

    def linear(self, theirs: str, ours: str, *, bias: bool = True) -> None:
        """Copy a linear layer, or a convolution with a kernel of one."""
        weight = self.take(f"{theirs}.weight")
        self.put(f"{ours}.weight", weight.flatten(1) if weight.dim() > 1 else weight)
        if bias:
            self.put(f"{ours}.bias", self.take(f"{theirs}.bias"))

    def tdnn(self, theirs: str, ours: str, *, bias: bool = True) -> None:
        """Copy a convolution over time, [outputs, inputs, taps], to the context-major weight of a `TDNNLayer`."""
        self.put(f"{ours}.linear.weight", self.take(f"{theirs}.weight", dims=3).permute(0, 2, 1).flatten(1))
        if bias:
            self.put(f"{ours}.linear.bias", self.take(f"{theirs}.bias"))

    def map_conv(self, theirs: str, ours: str, *, bias: bool = False) -> None:
        """Copy a convolution over [bands, frames] to ours over [frames, bands]."""
        self.put(f"{ours}.weight", self.take(f"{theirs}.weight", dims=4).transpose(2, 3))
        if bias:
            self.put(f"{ours}.bias", self.take(f"{theirs}.bias"))

    def norm(self, theirs: str, ours: str, *, affine: bool = True, own_affine: bool = True) -> None:
        """Copy a BatchNorm. Where only ours has weight and bias (`affine=False`), they become 1 and 0."""
        for key in NORM if affine else NORM[2:]:
            self.put(f"{ours}.{key}", self.take(f"{theirs}.{key}"))
        if not affine and own_affine:
            mean = self.weights[f"{ours}.running_mean"]
            self.put(f"{ours}.weight", torch.ones_like(mean))
            self.put(f"{ours}.bias", torch.zeros_like(mean))

    def finish(self, ignored: Iterable[str] = ()) -> dict[str, Tensor]:
        """Return our weights.

        Parameters
        ----------
        ignored
            Prefixes of tensors that may be left over, such as a classifier's.

        Raises
        ------
        CheckpointError
            Tensors are missing or left over; it names them.
        """
        skipped = tuple(self.prefix + each for each in ignored)
        own = [name for name in self.source.tensors if name.startswith(self.prefix)]
        left = [name for name in own if name not in self.taken and not (skipped and name.startswith(skipped))]
        problems = []
        if self.missing:
            problems.append(f"it lacks {count(len(self.missing), 'tensor')}: {first_few(self.missing, MAX_NAMED)}")
        if left:
            problems.append(f"it has {count(len(left), 'tensor')} more than the network: {first_few(left, MAX_NAMED)}")
        if problems:
            raise CheckpointError(f"{self.source.path}: {'; '.join(problems)}")
        return self.weights


def band_major(weight: Tensor, channels: int, *, parts: int = 1) -> Tensor:
    """Reorder the columns of a layer after a map was flattened: theirs by channel, then band; ours the other way.

    Parameters
    ----------
    weight
        [outputs, parts * channels * bands]; [outputs, ..., 1] is flattened first.
    channels
        Channels of the map.
    parts
        Statistics that follow each other, such as 2 for means and deviations.
    """
    weight = weight.flatten(1)
    if not weight.numel():
        return weight
    return weight.view(len(weight), parts, channels, -1).transpose(2, 3).flatten(1)


def stages(source: Source, pattern: str) -> int:
    """Return how many layers the checkpoint numbers; `pattern` has one group, the number.

    Raises CheckpointError where a number is left out.
    """
    found = {int(match[1]) for name in source.tensors if (match := re.match(pattern, name))}
    first = min(found, default=0)
    if found != set(range(first, first + len(found))):
        raise CheckpointError(f"{source.path}: its layers {pattern} are numbered {sorted(found)}, with gaps")
    return len(found)
