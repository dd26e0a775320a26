"""The tensors of a ReDimNet or ReDimNet2, in the layouts of its authors and of WeSpeaker, as those of our network."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace

import torch

from xvectors.config import FeaturesConfig, ModelConfig
from xvectors.config.schema import Value
from xvectors.errors import CheckpointError
from xvectors.models.redimnet_layouts import FIRST_SIZES, SECOND_SIZES, Layout
from xvectors.system.importers.family import Imported, Source
from xvectors.system.importers.tensors import Tensors, band_major, stages

NORM_EPS = 1e-5
"""What torch's BatchNorm adds to the variance."""
BACKBONE = "backbone."


@dataclass
class Network:
    """What the tensors of a backbone say about its size."""

    channels: int
    flat: int
    """Numbers of a frame between the stages."""
    strides: list[tuple[int, int]] = field(default_factory=list)
    """For each stage, bands joined to one, and frames of the recording for one of its own."""
    depths: list[int] = field(default_factory=list)
    widths: list[int] = field(default_factory=list)
    reductions: list[int] = field(default_factory=list)
    block: str = "residual"
    group_width: int = 0
    has_norms: bool = False
    sums_maps: bool = False

    @property
    def bands(self) -> int:
        """Filterbanks of the features."""
        return self.flat // self.channels

    @property
    def last_channels(self) -> int:
        """Channels of the last map."""
        joined = 1
        for bands, _ in self.strides:
            joined *= bands
        return self.channels * joined

    def layout(self, head_channels: int) -> Layout:
        frames = [1, *(frames for _, frames in self.strides)]
        return Layout(
            channels=self.channels,
            band_strides=tuple(bands for bands, _ in self.strides),
            frame_strides=tuple(after // before for before, after in itertools.pairwise(frames)),
            depths=tuple(self.depths),
            widths=tuple(self.widths),
            reductions=tuple(self.reductions),
            block=self.block,
            group_width=self.group_width,
            head_channels=head_channels,
        )


class Reader:
    """Moves a backbone's tensors to our names, and finds its sizes on the way."""

    def __init__(self, source: Source, *, second: bool) -> None:
        self.source, self.second = source, second
        self.tensors = Tensors(source, BACKBONE)
        # the authors' stages begin with a sum and a change of shape
        self.has_lists = _has_any(self.tensors, "inputs_weights.")
        self.first = 0 if self.has_lists else 2
        final = "inputs_weights." + str(self._stages()) if self.has_lists else "fin_wght1d.w"
        channels, flat = self._shape("stem.0.weight")[0], self._shape(final)[2]
        if not channels or not flat or flat % channels:
            raise CheckpointError(f"{source.path}: {BACKBONE}{final} has {flat} numbers, no multiple of {channels}")
        self.network = Network(channels=channels, flat=flat)

    def _stages(self) -> int:
        return stages(self.source, r"backbone\.stage(\d+)(?:_pre)?\.")

    def _shape(self, name: str) -> torch.Size:
        """Return the shape of a tensor that sizes follow from. Raises CheckpointError where it is missing."""
        _check_present(self.tensors, name)
        return self.tensors.take(name, dims=4).shape

    def read(self) -> Network:
        """Copy stem, stages and sums, and return the sizes."""
        tensors, network = self.tensors, self.network
        tensors.map_conv("stem.0", "stem", bias=True)
        _layer_norm(tensors, "stem.1", "stem_norm")
        network.has_norms = _has_any(tensors, "stem_gnorm.")
        if network.has_norms:
            _layer_norm(tensors, "stem_gnorm", "aggregate_norms.0")
        own, outputs = network.channels, 1
        for index in range(self._stages()):
            own, added = self._stage(index, own, outputs)
            outputs += added
        self._sum(f"inputs_weights.{len(network.depths)}" if self.has_lists else "fin_wght1d.w", len(network.depths))
        return network

    def _sum(self, theirs: str, index: int) -> None:
        weight = self.tensors.take(theirs, dims=4)
        if index:  # the first stage has one input
            self.tensors.put(f"sums.{index - 1}.scores", weight.flatten(2).flatten(0, 1))

    def _stage(self, index: int, own: int, outputs: int) -> tuple[int, int]:
        tensors, network, ours = self.tensors, self.network, f"stages.{index}"
        is_dual = _has_any(tensors, f"stage{index}_pre.")
        theirs = f"stage{index}_pre" if is_dual else f"stage{index}"
        if self.has_lists:
            self._sum(f"inputs_weights.{index}", index)
        else:
            self._sum(f"{theirs}.0.w", index)
        width, _, bands, frames = self._shape(f"{theirs}.{self.first}.weight")
        network.strides.append((bands, frames))
        network.widths.append(width)
        tensors.map_conv(f"{theirs}.{self.first}", f"{ours}.join", bias=True)
        own *= bands
        depth = stages(self.source, rf"backbone\.{theirs}\.(\d+)\.conv_block\.")
        if not depth:
            raise CheckpointError(f"{self.source.path}: {BACKBONE}{theirs} has no convolution blocks (conv_block)")
        network.depths.append(depth)
        for block in range(depth):
            self._block(f"{theirs}.{self.first + 1 + block}.conv_block", f"{ours}.blocks.{block}")
        position = self.first + 1 + depth
        if width != own:
            self._narrow(f"{theirs}.{position}", f"{ours}.narrow")
            position += 1
        # a change of shape, then the context over time, the repetition of frames, and a norm
        context = f"stage{index}_1d" if is_dual else f"{theirs}.{position + 1}"
        has_context = _has_any(tensors, f"{context}.tcm.")
        network.reductions.append(self._context(context, f"{ours}.context") if has_context else 0)
        network.sums_maps = network.sums_maps or is_dual
        if network.has_norms:
            last = f"{theirs}.{position + (3 if has_context else 2)}"
            norms = [f"stage{index}_up_2d.1", f"stage{index}_up_1d.1"] if is_dual else [last]
            for number, norm in enumerate(norms):
                _layer_norm(tensors, norm, f"aggregate_norms.{outputs + number}")
        return own, 2 if is_dual else 1

    def _block(self, theirs: str, ours: str) -> None:
        tensors, network = self.tensors, self.network
        if _has_any(tensors, f"{theirs}.dwconvs."):
            network.block = "next"
            grouped = f"{theirs}.dwconvs.0.weight"
            _next_block(tensors, theirs, ours)
        else:
            grouped = f"{theirs}.conv1.weight"
            for number in (1, 2):
                tensors.map_conv(f"{theirs}.conv{number}", f"{ours}.conv{number}")
                tensors.linear(f"{theirs}.conv{number}pw", f"{ours}.mix{number}", bias=number == 1)
                tensors.norm(f"{theirs}.bn{number}", f"{ours}.norm{number}")
            _without_bias(tensors, f"{theirs}.conv2pw", f"{ours}.norm2")
            if _has_any(tensors, f"{theirs}.se."):
                network.block = "excited"
                tensors.linear(f"{theirs}.se.squeeze", f"{ours}.squeeze")
                tensors.linear(f"{theirs}.se.exitation", f"{ours}.excite")
        if grouped in tensors:
            # where a stage has fewer channels than a group, it is one group
            inputs = self._shape(grouped)[1]
            network.group_width = min(network.group_width or inputs, inputs)

    def _narrow(self, theirs: str, ours: str) -> None:
        tensors = self.tensors
        if self.second:
            tensors.linear(f"{theirs}.0", f"{ours}.narrow", bias=False)
        else:
            tensors.map_conv(f"{theirs}.0", f"{ours}.narrow")
            tensors.linear(f"{theirs}.3", f"{ours}.mix")
        tensors.norm(f"{theirs}.1", f"{ours}.norm")
        _without_bias(tensors, f"{theirs}.0", f"{ours}.norm")

    def _context(self, theirs: str, ours: str) -> int:
        """Copy the context over time; return the factor by which it has fewer channels."""
        tensors = self.tensors
        tensors.linear(f"{theirs}.red_dim_conv.0", f"{ours}.reduce")
        _layer_norm(tensors, f"{theirs}.red_dim_conv.1", f"{ours}.reduced_norm")
        for block in range(4):
            _next_block(tensors, f"{theirs}.tcm.{block}", f"{ours}.blocks.{block}", over_time=True)
        encoder = f"{theirs}.tcm.4"
        names = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "out_proj": "output"}
        for their_name, name in names.items():
            # the bias of keys has no effect on a softmax over them
            tensors.linear(f"{encoder}.attention.{their_name}", f"{ours}.attention.{name}", bias=name != "key")
        tensors.take(f"{encoder}.attention.k_proj.bias")
        _layer_norm(tensors, f"{encoder}.layer_norm", f"{ours}.attention_norm")
        tensors.linear(f"{encoder}.feed_forward.intermediate_dense", f"{ours}.widen")
        tensors.linear(f"{encoder}.feed_forward.output_dense", f"{ours}.narrow")
        _layer_norm(tensors, f"{encoder}.final_layer_norm", f"{ours}.output_norm")
        tensors.linear(f"{theirs}.exp_dim_conv", f"{ours}.expand")
        width = tensors.weights[f"{ours}.expand.weight"].shape[-1]
        return self.network.flat // width if width else 1


def _has_any(tensors: Tensors, prefix: str) -> bool:
    """Whether any tensor has this prefix, so that the others of its layer must be there too."""
    return any(name.startswith(tensors.prefix + prefix) for name in tensors.source.tensors)


def _check_present(tensors: Tensors, name: str) -> None:
    if name not in tensors:
        raise CheckpointError(f"{tensors.source.path}: lacks {tensors.prefix}{name}, from which the sizes follow")


def _layer_norm(tensors: Tensors, theirs: str, ours: str) -> None:
    for key in ("weight", "bias"):
        tensors.put(f"{ours}.{key}", tensors.take(f"{theirs}.{key}"))


def _next_block(tensors: Tensors, theirs: str, ours: str, *, over_time: bool = False) -> None:
    if over_time:
        tensors.put(f"{ours}.conv.weight", tensors.take(f"{theirs}.dwconvs.0.weight", dims=3).unsqueeze(3))
    else:
        tensors.map_conv(f"{theirs}.dwconvs.0", f"{ours}.conv")
    tensors.norm(f"{theirs}.norm", f"{ours}.norm")
    _without_bias(tensors, f"{theirs}.dwconvs.0", f"{ours}.norm")
    tensors.linear(f"{theirs}.pwconv1", f"{ours}.mix")


def _without_bias(tensors: Tensors, theirs: str, norm: str) -> None:
    """Subtract the bias of a layer from the mean of the BatchNorm that follows it; ours has none."""
    bias, mean = tensors.take(f"{theirs}.bias"), tensors.weights[f"{norm}.running_mean"]
    if not bias.numel() or not mean.numel():
        return
    if bias.shape != mean.shape:
        raise CheckpointError(
            f"{tensors.source.path}: {tensors.prefix}{theirs}.bias is {list(bias.shape)}, where the BatchNorm after it "
            f"has {list(mean.shape)}"
        )
    tensors.put(f"{norm}.running_mean", mean - bias)


def convert_network(source: Source, *, second: bool, features: FeaturesConfig, embed: str, is_map: bool) -> Imported:
    """Convert a network whose features are known.

    Parameters
    ----------
    embed
        Name of the layer whose output is the embedding.
    is_map
        Whether the pooling takes the channels of a map one after the other, and not its bands.
    """
    reader = Reader(source, second=second)
    network = reader.read()
    backbone, tail = reader.tensors, Tensors(source)
    head_channels, per_band = _head(backbone, network)
    bands, rest = divmod(network.flat, network.last_channels)
    if not bands or rest:
        raise CheckpointError(
            f"{source.path}: its stages join bands to maps of {network.last_channels} channels, which do not divide "
            f"the {network.flat} numbers of a frame"
        )
    is_map = is_map or per_band
    pooled = head_channels * (bands if per_band else 1) if head_channels else network.flat
    has_context = _pooling(tail, pooled, pooled // bands if is_map else 0)
    has_norm = _has_any(tail, "bn.")
    if has_norm:
        tail.norm("bn", "pooled_norm")
    tail.linear(embed, "embedding")
    if is_map:
        for key in [key for key in tail.weights if key.startswith(("pooled_norm.", "embedding.w"))]:
            value = tail.weights[key]
            if value.shape[-1] == 2 * pooled:  # others are missing, or an error when they are loaded
                ordered = band_major(value.view(-1, 2 * pooled), pooled // bands, parts=2)
                tail.put(key, ordered.view(value.shape))
    # one list of what is missing or left over
    tail.taken |= backbone.taken
    tail.missing = [*backbone.missing, *tail.missing]
    weights = backbone.weights | tail.finish(ignored=("cls_head.", "projection.", "spec.", "frontend."))
    layout = network.layout(head_channels)
    settings = _settings(layout, SECOND_SIZES if second else FIRST_SIZES)
    settings["embedding_dim"] = len(tail.weights["embedding.bias"])
    changed: dict[str, tuple[Value, Value]] = {
        "head_per_band": (per_band or not head_channels, True),
        "aggregate_norm": (network.has_norms, False),
        "sum_maps": (network.sums_maps, False),
        "pooling": ("astp" if has_context else "channel", "astp"),
        "pooled_norm": (has_norm, True),
    }
    settings |= {key: value for key, (value, default) in changed.items() if value != default}
    return Imported(
        features=replace(features, num_mels=network.bands),
        model=ModelConfig(name="redimnet2" if second else "redimnet", settings=settings),
        weights=weights,
    )


def _settings(layout: Layout, sizes: Mapping[str, Layout]) -> dict[str, Value]:
    """Return the name of a published size, or every setting of another one."""
    for size, known in sizes.items():
        if known.completed() == layout:
            return {"size": size}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(layout).items()}


def _head(tensors: Tensors, network: Network) -> tuple[int, bool]:
    """Copy the layer before the pooling; return its channels (0 without that layer) and whether it maps each band."""
    if _has_any(tensors, "head."):
        _check_present(tensors, "head.weight")
        weight = tensors.take("head.weight")
        tensors.linear("head", "head")
        return len(weight), weight.dim() == 4 and weight.shape[1] == network.last_channels
    if not _has_any(tensors, "mfa."):
        return 0, False
    _check_present(tensors, "mfa.0.weight")
    # a convolution and its BatchNorm as one layer
    weight, bias = tensors.take("mfa.0.weight", dims=3).flatten(1), tensors.take("mfa.0.bias")
    scale, mean, variance, offset = (
        tensors.take(f"mfa.1.{key}") for key in ("weight", "running_mean", "running_var", "bias")
    )
    lengths = {len(each) for each in (bias, scale, mean, variance, offset)}
    if lengths == {len(weight)}:
        scale = scale / (variance + NORM_EPS).sqrt()
        weight, bias = weight * scale.unsqueeze(1), (bias - mean) * scale + offset
    elif 0 not in lengths:
        raise CheckpointError(
            f"{tensors.source.path}: {tensors.prefix}mfa.0 has {len(weight)} channels, and its bias or BatchNorm others"
        )
    tensors.put("head.weight", weight)
    tensors.put("head.bias", bias)
    return len(weight), False


def _pooling(tensors: Tensors, pooled: int, map_channels: int) -> bool:
    """Copy the attentive pooling; return whether its weights depend on the whole recording.

    `map_channels` is the number of channels that lie outside the bands in their order; 0 where ours is the same.
    """
    weight = tensors.take("pool.linear1.weight", dims=3).flatten(1)
    scores = tensors.take("pool.linear2.weight", dims=3).flatten(1)
    parts = weight.shape[1] // pooled
    if weight.numel() and (weight.shape[1] % pooled or parts not in (1, 3)):
        raise CheckpointError(
            f"{tensors.source.path}: pool.linear1.weight takes {weight.shape[1]} numbers, where {pooled} or "
            f"{3 * pooled} are expected; its pooling is another"
        )
    if map_channels and len(scores) == pooled and weight.numel():
        weight, scores = band_major(weight, map_channels, parts=parts), band_major(scores.T, map_channels).T
    tensors.put("pooling.hidden.weight", weight[:, :pooled])
    tensors.put("pooling.hidden.bias", tensors.take("pool.linear1.bias"))
    tensors.put("pooling.score.weight", scores)
    tensors.take("pool.linear2.bias")  # without effect on a softmax over time
    if parts > 1:
        tensors.put("pooling.context.weight", weight[:, pooled:])
    return parts > 1
