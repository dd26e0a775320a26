"""BatchNorm over a batch that several processes share: its statistics are those of the whole batch, on any device.

torch's own SyncBatchNorm does this on GPUs only. The statistics of the shares are combined without cancellation, after
Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode


class SharedBatchStatistics(TorchFunctionMode):
    """While it is entered, every BatchNorm in training mode computes with the statistics of all processes' batches.

    The share of an `idle` process, which must compute along, counts nothing.
    """

    def __init__(self, *, idle: bool = False) -> None:
        super().__init__()
        self._idle = idle

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is functional.batch_norm:
            return self._batch_norm(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _batch_norm(
        self,
        input: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        if not training:
            return functional.batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
        normalized: Tensor = _SharedBatchNorm.apply(
            input, running_mean, running_var, weight, bias, momentum, eps, self._idle
        )  # type: ignore[no-untyped-call]
        return normalized


class _SharedBatchNorm(torch.autograd.Function):
    """BatchNorm of `input` [batch, channels, ...], and its gradient, which flows through the statistics as well."""

    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None,
        bias: Tensor | None,
        momentum: float,
        eps: float,
        idle: bool,
    ) -> Tensor:
        wide = input.to(torch.promote_types(input.dtype, torch.float32))
        own_var, own_mean = torch.var_mean(wide, dim=_all_but_channels(input), correction=0)
        own_count = 0 if idle else input.numel() // input.shape[1]
        own = torch.cat((own_mean, own_var, own_mean.new_tensor([own_count])))
        gathered = [torch.empty_like(own) for _ in range(dist.get_world_size())]
        dist.all_gather(gathered, own)
        every, channels = torch.stack(gathered), len(own_mean)
        means, variances, counts = every[:, :channels], every[:, channels:-1], every[:, -1:]
        total = counts.sum()
        shares = counts / total
        mean = (shares * means).sum(dim=0)
        var = (shares * (variances + (means - mean).square())).sum(dim=0)
        if running_mean is not None and running_var is not None:
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            running_var.lerp_((var * (total / (total - 1))).to(running_var.dtype), momentum)
        ctx.save_for_backward(input, weight, mean, (var + eps).rsqrt(), total)
        ctx.idle = idle
        return functional.batch_norm(input, mean, var, weight, bias, False, 0.0, eps)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        input, weight, mean, inverse, total = ctx.saved_tensors
        axes, shape = _all_but_channels(input), (1, -1, *[1] * (input.dim() - 2))
        gradient = gradients[0].to(mean.dtype)
        normalized = (input.to(mean.dtype) - mean.view(shape)) * inverse.view(shape)
        for_bias, for_weight = gradient.sum(dim=axes), (gradient * normalized).sum(dim=axes)
        sums = torch.cat((for_bias, for_weight))
        dist.all_reduce(sums)
        # the statistics do not depend on the share of an idle process
        means = sums * (0.0 if ctx.idle else 1.0) / total
        mean_gradient, mean_product = means.view(2, -1).unbind()
        scale = inverse if weight is None else inverse * weight
        for_input = gradient - mean_gradient.view(shape) - normalized * mean_product.view(shape)
        for_input = (for_input * scale.view(shape)).to(input.dtype)
        affine = [
            each if needed else None
            for each, needed in zip((for_weight, for_bias), ctx.needs_input_grad[3:5], strict=True)
        ]
        return (for_input, None, None, *affine, None, None, None)


def _all_but_channels(input: Tensor) -> list[int]:
    return [axis for axis in range(input.dim()) if axis != 1]
