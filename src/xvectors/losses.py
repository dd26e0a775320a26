"""Losses over the training speakers.

The plain softmax is a function of a network's logits. Each margin loss is a head with its own class weights, from
embeddings and labels to a loss and logits: CosFace or AM-softmax (Wang et al., 2018), ArcFace or AAM-softmax (Deng et
al., 2019), with sub-centers (Deng et al., 2020) and an inter-top-k penalty (Zhao et al., 2021).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import fields
from numbers import Integral, Real
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from xvectors.config import LOSSES, DistillationConfig, LossConfig
from xvectors.errors import ConfigError, ShapeError
from xvectors.text import nearest

L = TypeVar("L", bound=nn.Module)

SCHEDULE_SETTINGS = ("margin_start", "margin_end", "large_margin")
"""Settings of a recipe's loss that training uses for `set_margin`."""

MIN_NORM = 1e-12
"""A shorter vector has no direction: its cosines and its gradient are 0."""


def softmax_loss(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Compute the mean cross-entropy in nats, in at least float32, under autocast as well.

    Parameters
    ----------
    logits
        [batch, num_classes].
    labels
        int64 [batch].
    label_smoothing
        Share of the target's probability that is spread evenly over all classes (Szegedy et al., CVPR 2016).

    Returns
    -------
    Tensor
        A scalar.
    """
    dtype = torch.promote_types(logits.dtype, torch.float32)
    with torch.autocast(logits.device.type, enabled=False):
        return functional.cross_entropy(logits.to(dtype), labels, label_smoothing=label_smoothing)


class MarginSoftmax(nn.Module):
    """Cross-entropy of scaled cosines with a margin against the target: the base of AMSoftmax and AAMSoftmax.

    Call it as `loss, logits = head(embeddings, labels)`.

    Parameters
    ----------
    embedding_dim
        Width of the embeddings.
    num_classes
        Number of classes.
    margin
        Margin against the target; `set_margin` changes it.
    scale
        Factor on the cosines, which lets the softmax approach 0 and 1.
    sub_centers
        Weight vectors per class, of which the one nearest to the embedding counts (Deng, Guo, Liu, Gong and Zafeiriou,
        "Sub-center ArcFace", ECCV 2020).
    inter_top_k, inter_top_k_margin
        Number of nearest wrong classes that get a margin too, and that margin in radians: their cosine becomes
        cos(theta - inter_top_k_margin), or cos(theta) + 1 - cos(inter_top_k_margin) for angles below the margin (Zhao
        et al., "Multi-query multi-head attention pooling and inter-topK penalty for speaker verification", ICASSP 2022,
        arXiv 2110.05042; WeSpeaker uses 5 and 0.06). `set_margin` does not change it.
    label_smoothing
        Share of the target's probability that is spread evenly over all classes.

    Raises
    ------
    ConfigError
        A setting is out of range.

    Notes
    -----
    The state is `weight` [num_classes * sub_centers, embedding_dim], with the sub-centers of a class in succession. An
    embedding or weight vector of no length has cosines of 0 and no gradient; in float16, so has one shorter than
    2 * scale / 65504, whose gradient would be infinite. An embedding with a NaN or an infinity gives no finite loss.
    """

    margin: float

    def __init__(
        self,
        embedding_dim: int,
        num_classes: int,
        *,
        margin: float = 0.2,
        scale: float = 30.0,
        sub_centers: int = 1,
        inter_top_k: int = 0,
        inter_top_k_margin: float = 0.06,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self._require("embedding_dim", embedding_dim, lambda n: n >= 1, "a whole number of at least 1", whole=True)
        self._require("num_classes", num_classes, lambda n: n >= 2, "a whole number of at least 2", whole=True)
        self._require("label_smoothing", label_smoothing, lambda x: 0 <= x < 1, "at least 0 and below 1")
        self._require("sub_centers", sub_centers, lambda n: n >= 1, "a whole number of at least 1", whole=True)
        self.embedding_dim = int(embedding_dim)
        self.num_classes = int(num_classes)
        self.sub_centers = int(sub_centers)
        self.label_smoothing = float(label_smoothing)
        # directions are uniform and lengths about 1, for any number of classes and dimensions
        self.weight = nn.Parameter(torch.randn(self.num_classes * self.sub_centers, self.embedding_dim))
        with torch.no_grad():
            self.weight.mul_(self.embedding_dim**-0.5)
        self.set_margin(margin)
        self._require("scale", scale, lambda s: 0 < s < math.inf, "a finite number above 0")
        wanted = f"a whole number from 0 (none) to {self.num_classes - 1}, the number of wrong classes"
        self._require("inter_top_k", inter_top_k, lambda k: 0 <= k < self.num_classes, wanted, whole=True)
        wanted = "radians between 0 and pi/2 (1.5708)"
        self._require("inter_top_k_margin", inter_top_k_margin, lambda m: 0 <= m <= math.pi / 2, wanted)
        self.scale = float(scale)
        self.inter_top_k = int(inter_top_k)
        self.inter_top_k_margin = float(inter_top_k_margin)

    def set_margin(self, margin: float) -> None:
        """Change the margin; raise ConfigError, and keep the old margin, if it is out of range."""
        raise NotImplementedError

    def _lowered(self, cosine: Tensor) -> Tensor:
        """Apply the margin to the cosine of the target."""
        raise NotImplementedError

    def forward(self, embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the loss and the logits in at least float32, under autocast as well.

        Parameters
        ----------
        embeddings
            [batch, embedding_dim], of any floating-point type.
        labels
            int64 [batch].

        Returns
        -------
        tuple[Tensor, Tensor]
            The mean cross-entropy in nats, a scalar, and the logits [batch, num_classes] without margins, from which
            the accuracy is computed.

        Raises
        ------
        ShapeError
            Shapes or types differ, or (on the CPU) a label is out of range. On a GPU torch itself stops at such a
            label: a check would have to wait for the GPU.
        """
        self._check_input(embeddings, labels)
        dtype = torch.promote_types(torch.promote_types(embeddings.dtype, self.weight.dtype), torch.float32)
        with torch.autocast(embeddings.device.type, enabled=False):
            logits, penalized = self._logits(embeddings, labels, dtype)
            loss = softmax_loss(penalized, labels, self.label_smoothing)
        return loss, logits

    def _logits(self, embeddings: Tensor, labels: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return the logits without and with margins, both of `dtype`."""
        centers = functional.linear(self._directions(embeddings, dtype), self._directions(self.weight, dtype))
        cosine = centers.view(-1, self.num_classes, self.sub_centers).max(dim=2).values
        target = labels.unsqueeze(1)
        penalized = cosine.scatter(1, target, self._lowered(cosine.gather(1, target)))
        if self.inter_top_k:
            wrong = cosine.detach().scatter(1, target, -math.inf)
            hardest = wrong.topk(self.inter_top_k, dim=1).indices
            # towards the opposite direction a wrong class is like a target, so its cosine rises instead of falling
            raised = -_cosine_of_sum(-cosine.gather(1, hardest), self.inter_top_k_margin)
            penalized = penalized.scatter(1, hardest, raised)
        return self.scale * cosine, self.scale * penalized

    def _directions(self, vectors: Tensor, dtype: torch.dtype) -> Tensor:
        """Scale rows to length 1; rows of no length become 0.

        A gradient reaches at most 2 * scale / norm, which overflows in float16 for vectors shorter than the floor.
        """
        floor = max(MIN_NORM, 2 * self.scale / torch.finfo(vectors.dtype).max)
        vectors = vectors.to(dtype)
        norm = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
        # division by an infinite length would give 0, and a diverged run would continue with a finite loss
        norm = norm.masked_fill(norm.isinf(), math.nan)
        directions: Tensor = vectors / norm.clamp(min=floor)
        return directions.masked_fill(norm <= floor, 0.0)

    def _check_input(self, embeddings: Tensor, labels: Tensor) -> None:
        name, shape = type(self).__name__, list(embeddings.shape)
        if embeddings.dim() != 2 or shape[1] != self.embedding_dim or not shape[0]:
            raise ShapeError(f"{name}: expected embeddings [batch, {self.embedding_dim}], got {shape}")
        if not embeddings.is_floating_point():
            raise ShapeError(f"{name}: embeddings must be floating-point numbers, got {embeddings.dtype}")
        if list(labels.shape) != shape[:1] or labels.dtype != torch.int64:
            raise ShapeError(
                f"{name}: expected {shape[0]} labels of torch.int64, one per embedding, "
                f"got {list(labels.shape)} of {labels.dtype}"
            )
        if labels.device.type != "cpu":
            return
        lowest, highest = torch.stack(labels.aminmax()).tolist()
        if lowest < 0 or highest >= self.num_classes:
            wrong = lowest if lowest < 0 else highest
            raise ShapeError(f"{name}: labels must lie between 0 and {self.num_classes - 1}, got {wrong}")

    def _require(
        self, name: str, value: Any, holds: Callable[[Any], bool], wanted: str, *, whole: bool = False
    ) -> None:
        if isinstance(value, bool) or not isinstance(value, Integral if whole else Real) or not holds(value):
            raise ConfigError(f"{type(self).__name__}: {name} is {value!r}; it must be {wanted}")

    def extra_repr(self) -> str:
        text = f"{self.embedding_dim}, {self.num_classes}, margin={self.margin:g}, scale={self.scale:g}"
        text += f", sub_centers={self.sub_centers}, inter_top_k={self.inter_top_k}"
        return f"{text}, inter_top_k_margin={self.inter_top_k_margin:g}, label_smoothing={self.label_smoothing:g}"


class AMSoftmax(MarginSoftmax):
    """Additive margin on the cosine: the target's logit is scale * (cos(theta) - margin), with 0 <= margin < 1.

    References
    ----------
    Wang, Wang, Zhou, Ji, Gong, Zhou, Li and Liu, "CosFace: large margin cosine loss for deep face recognition", CVPR
    2018; also Wang, Cheng, Liu and Liu, "Additive margin softmax for face verification", 2018.
    """

    def set_margin(self, margin: float) -> None:
        self._require("margin", margin, lambda m: 0 <= m < 1, "at least 0 and below 1")
        self.margin = float(margin)

    def _lowered(self, cosine: Tensor) -> Tensor:
        return cosine - self.margin


class AAMSoftmax(MarginSoftmax):
    """Additive margin on the angle: the target's logit is scale * cos(theta + margin), with a margin of 0 to pi/2.

    Notes
    -----
    Beyond theta + margin = pi, where that cosine would rise again, the logit is scale * (cos(theta) - 1 + cos(margin)),
    so that it falls from 0 to pi without a jump. The reference implementation's cos(theta) - margin * sin(margin) has
    the same slope there, but jumps at the joint, which the gradient does not describe.

    References
    ----------
    Deng, Guo, Xue and Zafeiriou, "ArcFace: additive angular margin loss for deep face recognition", CVPR 2019.
    """

    def set_margin(self, margin: float) -> None:
        wanted = "radians between 0 and pi/2 (1.5708)"
        self._require("margin", margin, lambda m: 0 <= m <= math.pi / 2, wanted)
        self.margin = float(margin)

    def _lowered(self, cosine: Tensor) -> Tensor:
        return _cosine_of_sum(cosine, self.margin)


def _cosine_of_sum(cosine: Tensor, margin: float) -> Tensor:
    """Return cos(theta + margin) up to theta = pi - margin, then cos(theta) minus the constant that joins the two.

    The sine is a root, because the gradient of acos is infinite at 0 and pi. It has a floor, and no gradient there:
    rounding makes cosines of 1 and slightly above.
    """
    sine = ((1.0 - cosine) * (1.0 + cosine)).clamp(min=torch.finfo(cosine.dtype).eps ** 2).sqrt()
    turned = cosine * math.cos(margin) - sine * math.sin(margin)
    return torch.where(cosine >= -math.cos(margin), turned, cosine - (1.0 - math.cos(margin)))


def distillation_loss(embeddings: Tensor, targets: Tensor, settings: DistillationConfig) -> Tensor:
    """Compute the weighted sum of the cosine and the relational loss, in float32.

    Parameters
    ----------
    embeddings
        The student's, [batch, dim], two or more.
    targets
        The teacher's, [batch, dim], each of length 1.
    settings
        The weights.

    Returns
    -------
    A scalar: the mean of 1 - cos, and the mean squared error of the cosines of all pairs over the mean square of the
    teacher's, so that both are about 1 before training.

    References
    ----------
    Park, Kim, Lu and Cho, "Relational knowledge distillation", CVPR 2019, with cosines instead of distances.
    """
    with torch.autocast(embeddings.device.type, enabled=False):
        directions = functional.normalize(embeddings.float(), dim=1)
        cosine = (1.0 - (directions * targets).sum(dim=1)).mean()
        pairs = torch.triu_indices(len(targets), len(targets), offset=1, device=targets.device)
        wanted = (targets @ targets.T)[pairs[0], pairs[1]]
        found = (directions @ directions.T)[pairs[0], pairs[1]]
        relational = (found - wanted).square().mean() / wanted.square().mean().clamp(min=1e-6)
    return settings.cosine_weight * cosine + settings.relational_weight * relational


MARGIN_LOSSES: dict[str, type[MarginSoftmax]] = {
    "am_softmax": AMSoftmax,
    "aam_softmax": AAMSoftmax,
}
"""The margin losses, by the names that recipes call them; `softmax` is the function `softmax_loss`."""


def build_loss(name: str, embedding_dim: int, num_classes: int, **settings: Any) -> MarginSoftmax:
    """Build the head of a margin loss by name, with the keyword arguments of its class.

    Raises
    ------
    ConfigError
        The name or a setting is unknown, or a value is out of range.
    """
    if name not in MARGIN_LOSSES:
        raise ConfigError(f"unknown loss {name!r}{nearest(name, MARGIN_LOSSES)}")
    parameters = inspect.signature(MARGIN_LOSSES[name].__init__).parameters.values()
    known = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    for key in settings:
        if key not in known:
            raise ConfigError(f"loss {name!r} has no setting {key!r}{nearest(key, known)}")
    head: Callable[..., MarginSoftmax] = MARGIN_LOSSES[name]
    return head(embedding_dim, num_classes, **settings)


def register_loss(name: str) -> Callable[[type[L]], type[L]]:
    """Register the decorated class under a name for `loss.name`, in this process (see docs/how-to/extend.md).

    Raises
    ------
    ConfigError
        The name is built in, or the class is not a torch module.
    """

    def register(cls: type[L]) -> type[L]:
        LOSSES.register(name, _checked_loss(cls, name), {"softmax": None, **MARGIN_LOSSES})
        return cls

    return register


def make_head(config: LossConfig, embedding_dim: int, num_classes: int) -> nn.Module:
    """Build the head of a recipe's loss, called as `loss, logits = head(embeddings, labels)`.

    A loss from outside xvectors gets its own settings, and those settings of the margin losses that its constructor
    takes. It is tried on noise.

    Raises
    ------
    ConfigError
        The loss is unknown, cannot be built, or does not return a scalar and logits.
    """
    settings = {each.name: getattr(config, each.name) for each in fields(config)}
    for key in ("name", "settings", *SCHEDULE_SETTINGS):
        del settings[key]
    if config.name in MARGIN_LOSSES:
        return build_loss(config.name, embedding_dim, num_classes, **settings)
    what = f"{LOSSES.key} = {config.name!r}"
    cls = _checked_loss(LOSSES.find(config.name, MARGIN_LOSSES), config.name)
    parameters = inspect.signature(cls).parameters
    takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    defaults = LossConfig()
    given = {key: value for key, value in settings.items() if key in parameters}
    given |= config.settings
    unused = [key for key in settings if key not in parameters and settings[key] != getattr(defaults, key)]
    for key in [*unused, *config.settings]:
        if key not in parameters and not takes_any:
            raise ConfigError(f"{what} has no setting {key!r}{nearest(key, list(parameters)[2:])}")
    try:
        inspect.signature(cls).bind(embedding_dim, num_classes, **given)
    except TypeError as error:
        raise ConfigError(
            f"{what} cannot be built as {cls.__name__}(embedding_dim, num_classes, ...): {error}"
        ) from error
    head = cls(embedding_dim, num_classes, **given)
    _try(head, embedding_dim, num_classes, what)
    return head


def _checked_loss(found: Any, name: str) -> type[nn.Module]:
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise ConfigError(f"{LOSSES.key} = {name!r} is not a loss: it must be a class derived from torch.nn.Module")
    return found


@torch.no_grad()
def _try(head: nn.Module, embedding_dim: int, num_classes: int, what: str) -> None:
    embeddings = torch.randn(2, embedding_dim, generator=torch.Generator().manual_seed(0))
    result = head(embeddings, torch.tensor([0, num_classes - 1]))
    if not (isinstance(result, tuple) and len(result) == 2 and all(isinstance(each, Tensor) for each in result)):
        raise ConfigError(f"{what}: its forward(embeddings, labels) must return two tensors, the loss and the logits")
    loss, logits = result
    if loss.dim() or not loss.is_floating_point() or list(logits.shape) != [2, num_classes]:
        raise ConfigError(
            f"{what}: its forward must return a scalar loss and logits [batch, {num_classes}]; for 2 embeddings it "
            f"gave {list(loss.shape)} of {loss.dtype} and {list(logits.shape)}"
        )
