"""Losses for training embeddings. In: embeddings [batch, dim] and speaker labels; out: loss and logits.

Every margin loss is a head that owns its class weights and is named after its paper; the plain softmax is a function of
a network's own logits. Margins: Wang et al. 2018 (CosFace, AM-softmax), Deng
et al. 2019 (ArcFace, AAM-softmax); sub-centers: Deng et al. 2020; inter-top-k: Zhao et al. 2021.
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

from xvectors.config import LOSSES as OWN_LOSSES
from xvectors.config import LossConfig
from xvectors.errors import ConfigError, ShapeError
from xvectors.text import nearest

L = TypeVar("L", bound=nn.Module)

OF_THE_RUN = ("margin_start", "margin_end", "large_margin")
"""Settings of a recipe's loss that training uses: it calls `set_margin` with what they say."""

NORM_FLOOR = 1e-12
"""A vector no longer than this has no direction: its cosines are 0, and so is its gradient."""


def softmax_loss(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """The plain softmax: mean cross-entropy in nats, a scalar, of logits [batch, num_classes].

    `label_smoothing` is the share of the target's probability spread evenly over all classes (Szegedy et al., CVPR
    2016). Computed in float32 at least, under autocast as well.
    """
    dtype = torch.promote_types(logits.dtype, torch.float32)
    with torch.autocast(logits.device.type, enabled=False):
        return functional.cross_entropy(logits.to(dtype), labels, label_smoothing=label_smoothing)


class MarginSoftmax(nn.Module):
    """Cross-entropy of scaled cosines, the target's lowered by a margin: what AMSoftmax and AAMSoftmax share.

    `loss, logits = head(embeddings, labels)`: `embeddings` are [batch, embedding_dim] of any floating type, `labels`
    [batch] int64. The loss is the batch's mean cross-entropy in nats, a scalar; the logits [batch, num_classes] are
    those without any margin, for the accuracy. Both are float32, and everything between is computed in float32 under
    autocast as well; float64 stays float64. Modes of training and evaluation do not differ. A NaN or an infinity among
    the embeddings makes no finite loss.

    Parameters
    ----------
    margin
        How much harder than the others the target is made; `set_margin` changes it, as from `margin_at` in every step.
    scale
        Factor on the cosines, so that the softmax can come near 0 and 1.
    sub_centers
        Weight vectors a class; the one nearest to the embedding speaks for it (Deng, Guo, Liu, Gong and Zafeiriou,
        "Sub-center ArcFace", ECCV 2020).
    inter_top_k, inter_top_k_margin
        The so many nearest wrong classes are made harder too: cos(theta - inter_top_k_margin), the margin in radians,
        in place of cos(theta), with either kind of margin (Zhao et al., "Multi-query multi-head attention pooling and
        inter-topK penalty for speaker verification", ICASSP 2022, arXiv 2110.05042; WeSpeaker takes 5 and 0.06). An
        angle below that margin, which would come out behind 0, gives cos(theta) + 1 - cos(inter_top_k_margin).
        `set_margin` leaves it as it is.
    label_smoothing
        Share of the target's probability spread evenly over all classes.

    Raises
    ------
    ConfigError
        For an impossible setting.
    ShapeError
        For other shapes or types, and on the CPU for labels out of range (checking them on a GPU would have to wait for
        it; there torch stops at them).

    Notes
    -----
    An embedding or a weight vector without length (in float16: below 2 * scale / 65504, where its gradient would be
    infinite) has cosines of 0 and no gradient. State: `weight` [num_classes * sub_centers, embedding_dim], the
    sub-centers of a class in succession.
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
        # Directions are uniform and lengths about 1, whatever the numbers of classes and dimensions.
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
        """Use this margin from now on. Raises ConfigError, and keeps the old one, where it is out of range."""
        raise NotImplementedError

    def _lowered(self, cosine: Tensor) -> Tensor:
        """The target's cosine with the margin against it."""
        raise NotImplementedError

    def forward(self, embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Loss, a scalar, and logits [batch, num_classes] without margin."""
        self._check_input(embeddings, labels)
        dtype = torch.promote_types(torch.promote_types(embeddings.dtype, self.weight.dtype), torch.float32)
        with torch.autocast(embeddings.device.type, enabled=False):
            logits, penalized = self._logits(embeddings, labels, dtype)
            loss = softmax_loss(penalized, labels, self.label_smoothing)
        return loss, logits

    def _logits(self, embeddings: Tensor, labels: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Logits as they are, and as the loss sees them; both of `dtype`."""
        centers = functional.linear(self._directions(embeddings, dtype), self._directions(self.weight, dtype))
        cosine = centers.view(-1, self.num_classes, self.sub_centers).max(dim=2).values
        target = labels.unsqueeze(1)
        penalized = cosine.scatter(1, target, self._lowered(cosine.gather(1, target)))
        if self.inter_top_k:
            wrong = cosine.detach().scatter(1, target, -math.inf)
            hardest = wrong.topk(self.inter_top_k, dim=1).indices
            # Seen from the opposite direction a wrong class is a target, and its cosine rises instead of falling.
            raised = -_cosine_of_sum(-cosine.gather(1, hardest), self.inter_top_k_margin)
            penalized = penalized.scatter(1, hardest, raised)
        return self.scale * cosine, self.scale * penalized

    def _directions(self, vectors: Tensor, dtype: torch.dtype) -> Tensor:
        """Rows of length 1; rows with no length become 0.

        A gradient reaches at most 2 * scale / norm: float16 holds that of no shorter vector than the floor.
        """
        floor = max(NORM_FLOOR, 2 * self.scale / torch.finfo(vectors.dtype).max)
        vectors = vectors.to(dtype)
        norm = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
        # Over an infinite length all would be 0, and a run that has diverged would go on with a finite loss.
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
                f"{name}: expected {shape[0]} labels of torch.int64, one an embedding, "
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
    """Additive margin on the cosine: the target's logit is scale * (cos(theta) - margin), 0 <= margin < 1.

    Wang, Wang, Zhou, Ji, Gong, Zhou, Li and Liu, "CosFace: large margin cosine loss for deep face recognition", CVPR
    2018; also Wang, Cheng, Liu and Liu, "Additive margin softmax for face verification", 2018.
    """

    def set_margin(self, margin: float) -> None:
        self._require("margin", margin, lambda m: 0 <= m < 1, "at least 0 and below 1")
        self.margin = float(margin)

    def _lowered(self, cosine: Tensor) -> Tensor:
        return cosine - self.margin


class AAMSoftmax(MarginSoftmax):
    """Additive margin on the angle: the target's logit is scale * cos(theta + margin), the margin in radians to pi/2.

    Where theta + margin passes pi and that cosine would rise again, it is scale * (cos(theta) - 1 + cos(margin)):
    the logit falls all the way from 0 to pi, and without a jump. (The reference implementation's cos(theta) -
    margin * sin(margin) has the same slope there, a jump before it, and so a loss its gradient does not describe.)

    Deng, Guo, Xue and Zafeiriou, "ArcFace: additive angular margin loss for deep face recognition", CVPR 2019.
    """

    def set_margin(self, margin: float) -> None:
        wanted = "radians between 0 and pi/2 (1.5708)"
        self._require("margin", margin, lambda m: 0 <= m <= math.pi / 2, wanted)
        self.margin = float(margin)

    def _lowered(self, cosine: Tensor) -> Tensor:
        return _cosine_of_sum(cosine, self.margin)


def _cosine_of_sum(cosine: Tensor, margin: float) -> Tensor:
    """cos(theta + margin) up to theta = pi - margin, past it cos(theta) less the constant that joins the two.

    There is no acos, whose gradient is infinite at 0 and pi: the sine is a root. It has a floor, and no gradient there,
    because rounding makes cosines of 1, and just past it.
    """
    sine = ((1.0 - cosine) * (1.0 + cosine)).clamp(min=torch.finfo(cosine.dtype).eps ** 2).sqrt()
    turned = cosine * math.cos(margin) - sine * math.sin(margin)
    return torch.where(cosine >= -math.cos(margin), turned, cosine - (1.0 - math.cos(margin)))


LOSSES: dict[str, type[MarginSoftmax]] = {"am_softmax": AMSoftmax, "aam_softmax": AAMSoftmax}


def build_loss(name: str, embedding_dim: int, num_classes: int, **settings: Any) -> MarginSoftmax:
    """Build the head of the margin loss called `name` with the keyword arguments of its class.

    Raises ConfigError for an unknown name or setting, naming the nearest known one, and for impossible values.
    """
    if name not in LOSSES:
        raise ConfigError(f"unknown loss {name!r}{nearest(name, LOSSES)}")
    parameters = inspect.signature(LOSSES[name].__init__).parameters.values()
    known = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    for key in settings:
        if key not in known:
            raise ConfigError(f"loss {name!r} has no setting {key!r}{nearest(key, known)}")
    head: Callable[..., MarginSoftmax] = LOSSES[name]
    return head(embedding_dim, num_classes, **settings)


def register_loss(name: str) -> Callable[[type[L]], type[L]]:
    """Decorator: let `loss.name = name` stand for this class in this process (see docs/how-to/extend.md).

    Raises ConfigError for a name that is taken, and for a class that is no torch module.
    """

    def register(cls: type[L]) -> type[L]:
        OWN_LOSSES.register(name, _checked_loss(cls, name), {"softmax": None, **LOSSES})
        return cls

    return register


def make_head(config: LossConfig, embedding_dim: int, num_classes: int) -> nn.Module:
    """The head of a recipe's loss: `loss, logits = head(embeddings, labels)`.

    A loss of one's own gets `loss`'s own settings, and those of the margin losses that its constructor takes. It is
    tried on noise: ConfigError where it is no loss, or gives something else than a scalar and logits.
    """
    settings = {each.name: getattr(config, each.name) for each in fields(config)}
    for key in ("name", "settings", *OF_THE_RUN):
        del settings[key]
    if config.name in LOSSES:
        return build_loss(config.name, embedding_dim, num_classes, **settings)
    what = f"{OWN_LOSSES.key} = {config.name!r}"
    cls = _checked_loss(OWN_LOSSES.find(config.name, LOSSES), config.name)
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
        raise ConfigError(f"{OWN_LOSSES.key} = {name!r} is no loss: it must be a class derived from torch.nn.Module")
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
            f"{what}: its forward must return a scalar loss and logits [batch, {num_classes}]; of 2 embeddings it gave "
            f"{list(loss.shape)} of {loss.dtype} and {list(logits.shape)}"
        )


def margin_at(progress: float, start: float, end: float, final: float) -> float:
    """The margin at `progress` in [0, 1] of a run: 0 until `start`, then rising linearly to `final` at `end`.

    It has no state, so that a resumed run goes on exactly, and scales with the run's length. Linear needs no further
    constant; the exponential ramp of WeSpeaker, at 90 % after a third of its way, is near a linear one a third as long.
    `start` = `end` is a step. Raises ConfigError unless 0 <= start <= end <= 1 and final is at least 0.
    """
    if not 0 <= start <= end <= 1:
        raise ConfigError(f"the margin's ramp goes from {start} to {end}; it must be 0 <= start <= end <= 1")
    if not 0 <= final < math.inf:
        raise ConfigError(f"the margin's final value is {final}; it must be at least 0")
    if progress >= end:
        return final
    return 0.0 if progress <= start else final * (progress - start) / (end - start)
