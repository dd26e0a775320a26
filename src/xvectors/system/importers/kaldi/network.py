"""The x-vector networks of Kaldi's recipes (egs/voxceleb/v2, egs/sre16/v2 and others), with their back-end."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from xvectors.config import ModelConfig
from xvectors.config.schema import Value
from xvectors.errors import CheckpointError
from xvectors.models.xvector import MAX_CONTEXT_FRAMES, SPLICED_CONTEXTS
from xvectors.system.importers.family import Family, Imported, Source
from xvectors.system.importers.kaldi.backend import find_backend
from xvectors.system.importers.kaldi.features import find_features, read_config
from xvectors.system.importers.kaldi.files import AFFINE, Component, Nnet3, is_nnet3, read_nnet3
from xvectors.system.importers.networks_1d import EPSILON, identity, plain, xvector_widths
from xvectors.system.importers.tensors import Tensors

LETTERS = {
    **dict.fromkeys(AFFINE, "A"),
    "RectifiedLinearComponent": "R",
    "BatchNormComponent": "B",
    "StatisticsExtractionComponent": "E",
    "StatisticsPoolingComponent": "P",
    **dict.fromkeys(("SoftmaxComponent", "LogSoftmaxComponent"), "S"),
}
"""A letter for each kind of component, so that a regular expression tells whether a chain of them is an x-vector."""
WITHOUT_EFFECT = ("NoOpComponent", "DropoutComponent", "GeneralDropoutComponent")
"""Components that change nothing once trained."""
CHAIN = re.compile(r"(?P<frames>(?:ARB?)+)EP(?P<segments>A(?:RB?A)*)(?:RB?)?S?")
MAX_STEPS = 1000
MAX_LINE = 2000
"""Characters of a line, of which an x-vector needs a tenth: the time for `SETTING` grows with their square."""
SETTING = re.compile(r"([A-Za-z][\w-]*)=(.*?)(?=\s+[A-Za-z][\w-]*=|\s*$)")
TAP = re.compile(r"(?:Offset\((?P<shifted>[^,()]+),(?P<offset>-?\d+)\)|(?P<plain>[^,()]+))(?:,|$)")
AT_ONE_TIME = re.compile(r"Round\(([^,()]+),1\)|ReplaceIndex\(([^,()]+),t,0\)")
"""Descriptors of a node whose output has one time, such as the pooled statistics."""

VAD_NOTE = (
    "Kaldi's energy VAD drops frames after the sliding mean is subtracted; here the VAD of xvectors cuts the recording "
    "before its features are computed"
)
CHUNK_NOTE = (
    "Kaldi averages the embeddings of chunks of {frames:,} frames; here longer recordings are pooled as a whole"
)
EMBEDDING_NOTE = "no extract.config is beside the model; the embedding is {node}, as in Kaldi's recipes"


@dataclass(frozen=True, kw_only=True)
class Step:
    """A node of the network's graph."""

    node: str
    component: Component
    offsets: tuple[int, ...]
    """The frames of the node before that it sees."""

    @property
    def letter(self) -> str:
        return LETTERS[self.component.kind]


class Graph:
    """The nodes of a network by name, from the lines that describe them."""

    def __init__(self, nnet: Nnet3) -> None:
        self.nnet = nnet
        self.inputs: dict[str, int] = {}
        self.nodes: dict[str, tuple[str, str]] = {}
        self.outputs: dict[str, str] = {}
        for line in nnet.lines:
            kind, settings = parse_line(line)
            name = settings.get("name", "")
            if kind == "input-node" and settings.get("dim", "").isdecimal():
                self.inputs[name] = int(settings["dim"])
            elif kind == "component-node" and {"component", "input"} <= settings.keys():
                self.nodes[name] = settings["component"], settings["input"]
            elif kind == "output-node" and "input" in settings:
                self.outputs[name] = settings["input"]
            else:
                self.refuse(f"its graph has the line {line[:200]!r}, which is not part of an x-vector")

    def refuse(self, why: str) -> NoReturn:
        raise CheckpointError(f"{self.nnet.path}: {why}")

    def chain(self, end: str) -> tuple[list[Step], int]:
        """Return the nodes from the input to `end`, and the width of the input."""
        steps: list[Step] = []
        name = end
        while name not in self.inputs:
            if name not in self.nodes or self.nodes[name][0] not in self.nnet.components:
                self.refuse(f"its graph names {name}, which is no node with a component; the file is damaged")
            if len(steps) >= MAX_STEPS:
                self.refuse(f"its graph has a loop, or more than {MAX_STEPS} nodes before {end}")
            component, descriptor = self.nodes[name]
            before, offsets = self._spliced(name, descriptor)
            steps.append(Step(node=name, component=self.nnet.components[component], offsets=offsets))
            name = before
        found = [step for step in reversed(steps) if step.component.kind not in WITHOUT_EFFECT]
        for step in found:
            if step.letter != "A" and step.offsets != (0,):
                self.refuse(
                    f"{step.node} sees the frames {list(step.offsets)}; in an x-vector only affine layers splice"
                )
        return found, self.inputs[name]

    def _spliced(self, name: str, descriptor: str) -> tuple[str, tuple[int, ...]]:
        """Return the node that a descriptor names, and its offsets."""
        text = re.sub(r"\s", "", descriptor)
        if match := AT_ONE_TIME.fullmatch(text):
            return match[1] or match[2], (0,)
        inner = text[len("Append(") : -1] if text.startswith("Append(") and text.endswith(")") else text
        taps = list(TAP.finditer(inner))
        nodes = {tap["shifted"] or tap["plain"] for tap in taps}
        if "".join(tap[0] for tap in taps) != inner or len(nodes) != 1:
            self.refuse(f"{name} has the input {descriptor[:200]}; an x-vector appends frames of one node only")
        return nodes.pop(), tuple(int(tap["offset"] or 0) for tap in taps)


def parse_line(line: str) -> tuple[str, dict[str, str]]:
    """Split a line such as `component-node name=a component=b input=Append(c, d)` into its kind and its settings.

    A line of more than MAX_LINE characters has neither.
    """
    if len(line) > MAX_LINE:
        return "", {}
    kind, _, rest = line.strip().partition(" ")
    return kind, dict(SETTING.findall(rest))


def _convert(source: Source) -> Imported:
    nnet = read_nnet3(source.path)
    graph = Graph(nnet)
    if "output" not in graph.outputs:
        graph.refuse("its graph has no output-node of the name output")
    notes = [VAD_NOTE]
    steps, input_dim = graph.chain(graph.outputs["output"])
    embedding = _told_embedding(source.path)
    if embedding is not None and embedding not in [step.node for step in steps]:
        steps, input_dim = graph.chain(embedding)
    match = CHAIN.fullmatch("".join(step.letter for step in steps))
    if match is None:
        layers = ", ".join(step.component.kind.removesuffix("Component") for step in steps[:40])
        graph.refuse(f"is no x-vector: its layers are {layers}")
    frames, pooling = steps[: match.end("frames")], steps[match.end("frames") : match.start("segments")]
    segments = steps[match.start("segments") :]
    affine = [step for step in segments if step.letter == "A"]
    if embedding is None:
        is_cut = segments[-1].letter == "A" and len(affine) <= 2 and affine[-1].node != "output.affine"
        embedding = affine[-1 if is_cut else 0].node
        notes += [] if is_cut else [EMBEDDING_NOTE.format(node=embedding)]
    names = [step.node for step in affine[:2]]
    if embedding not in names:
        graph.refuse(f"its embedding is {embedding}; only {' or '.join(names)}, before the ReLU, can be imported")

    network = _Network(graph, Tensors(source), has_norm=any(step.letter == "B" for step in steps))
    settings = network.frame_layers(frames, input_dim)
    settings |= network.pooling(pooling[0].component, pooling[1].component)
    settings |= network.segment_layers(segments, names.index(embedding) + 1)
    notes.append(CHUNK_NOTE.format(frames=pooling[1].component.integer("RightContext")))
    features, of_features = find_features(source.path, input_dim)
    embedding_dim = int(network.width)
    backend, of_backend = find_backend(source.path, embedding_dim)
    return Imported(
        features=features,
        model=ModelConfig(name="xvector", settings=settings),
        weights=network.tensors.finish(),
        backend=backend,
        notes=(*notes, *of_features, *of_backend),
    )


class _Network:
    """Collects the weights of our x-vector layer by layer; `width` is the number of outputs of the last layer."""

    def __init__(self, graph: Graph, tensors: Tensors, *, has_norm: bool) -> None:
        self.graph, self.tensors, self.width = graph, tensors, 0
        self.has_norm = has_norm

    def frame_layers(self, steps: Sequence[Step], input_dim: int) -> dict[str, Value]:
        layers = [step for step in steps if step.letter == "A"]
        norms = _norms(steps)
        self.width = input_dim
        contexts, widths = [], []
        for number, layer in enumerate(layers):
            context = self._context(layer)
            weight, bias = self._affine(layer)
            # Kaldi appends the frames in the order of the descriptor
            taps = weight.reshape(len(weight), len(context), -1)[:, np.argsort(layer.offsets)]
            self._put(f"tdnn{number + 1}.linear", taps.reshape(weight.shape), bias)
            self._norm_or_plain(norms[number], f"bn{number + 1}")
            contexts.append(context)
            widths.append(self.width)
        self._check_start(layers, contexts)
        depth = len(layers) - len(SPLICED_CONTEXTS) - 1
        is_paper = depth >= 0 and contexts == [*SPLICED_CONTEXTS, *[(0,)] * (depth + 1)]
        if is_paper and len(set(widths[:-1])) == 1:
            sizes = xvector_widths(self.tensors.source, widths[0], widths[-1])
            return {**sizes, "depth": depth, "batch_norm": self.has_norm}
        texts = [" ".join(map(str, context)) for context in contexts]
        return {"contexts": texts, "widths": widths, "batch_norm": self.has_norm}

    def _context(self, layer: Step) -> tuple[int, ...]:
        """Return the offsets that a layer sees, sorted."""
        context = tuple(sorted(layer.offsets))
        if len(set(context)) < len(context):
            self.graph.refuse(f"{layer.node} sees the frames {list(layer.offsets)}, some of them twice")
        if context[-1] - context[0] >= MAX_CONTEXT_FRAMES or max(map(abs, context)) >= MAX_CONTEXT_FRAMES:
            self.graph.refuse(
                f"{layer.node} sees the frames {list(layer.offsets)}; those of an x-vector lie within "
                f"{MAX_CONTEXT_FRAMES:,} frames"
            )
        return context

    def _check_start(self, layers: Sequence[Step], contexts: Sequence[tuple[int, ...]]) -> None:
        """Refuse layers that together only see later frames: Kaldi pools no frame before the first of the recording."""
        last = layers[-1].node
        span = sum(context[-1] - context[0] for context in contexts)
        if span >= MAX_CONTEXT_FRAMES:
            self.graph.refuse(
                f"{last} depends on {span + 1:,} frames of the input; at most {MAX_CONTEXT_FRAMES:,} can be"
            )
        if (start := sum(context[0] for context in contexts)) > 0:
            self.graph.refuse(f"{last} sees the input from {start} frames after its own on; an x-vector sees its own")

    def pooling(self, extraction: Component, pooling: Component) -> dict[str, Value]:
        expected: list[tuple[Component, str, Any]] = [
            (extraction, "InputDim", self.width),
            (extraction, "InputPeriod", 1),
            (extraction, "OutputPeriod", 1),
            (extraction, "IncludeVarinance", True),  # as Kaldi spells it
            (pooling, "InputDim", 2 * self.width + 1),
            (pooling, "InputPeriod", 1),
            (pooling, "LeftContext", 0),
            (pooling, "NumLogCountFeatures", 0),
            (pooling, "OutputStddevs", True),
        ]
        for component, field, value in expected:
            found = component.flag(field) if isinstance(value, bool) else component.integer(field)
            if found != value:
                self.graph.refuse(f"{component.name} has <{field}> {found}, where {value} is expected of an x-vector")
        floor = pooling.number("VarianceFloor")
        if not floor > 0:
            self.graph.refuse(f"{pooling.name} has <VarianceFloor> {floor}; it must be above 0")
        self.width *= 2
        return {"variance_floor": floor}

    def segment_layers(self, steps: Sequence[Step], embedding_layer: int) -> dict[str, Value]:
        """Store the first two layers above the pooling; where only the first is needed and the second cannot follow,
        it becomes the identity.
        """
        affine, norms, pooled_dim = [step for step in steps if step.letter == "A"], _norms(steps), self.width
        for step in affine:
            if step.offsets != (0,):
                self.graph.refuse(f"{step.node} sees the frames {list(step.offsets)} of a layer that has one time")
        if self.has_norm:
            plain(self.tensors, "pool_bn", pooled_dim)
        self._put("seg_fc1", *self._affine(affine[0]))
        self._norm_or_plain(norms[0], "seg_bn1")
        first = self.width
        # the layer before a softmax, or one that nothing follows, is that of the classes
        is_hidden = len(affine) > 1 and [step.letter for step in steps[steps.index(affine[1]) + 1 :]][:1] == ["R"]
        if embedding_layer == 2 or is_hidden:
            weight, bias = self._affine(affine[1])
            if embedding_layer == 2 or self.width == first:
                self._put("seg_fc2", weight, bias)
                self._norm_or_plain(norms[1], "seg_bn2")
                own: dict[str, Value] = {"embedding_layer": 2} if embedding_layer == 2 else {}
                own |= {"segment_dim": first} if self.width != first else {}
                return {"embedding_dim": self.width, **own}
        self.width = first
        identity(self.tensors, "seg_fc2", first)
        self._norm_or_plain(None, "seg_bn2")
        return {"embedding_dim": first}

    def _affine(self, step: Step) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        weight, bias = step.component.array("LinearParams", 2), step.component.array("BiasParams", 1)
        inputs = self.width * len(step.offsets)
        if not len(weight) or weight.shape != (len(bias), inputs):
            self.graph.refuse(
                f"{step.node} has weights {list(weight.shape)} and a bias of {len(bias)}, where [D, {inputs}] and D "
                "are expected"
            )
        self.width = len(bias)
        return weight, bias

    def _put(self, name: str, weight: np.ndarray[Any, Any], bias: np.ndarray[Any, Any]) -> None:
        self.tensors.put(f"{name}.weight", _tensor(weight))
        self.tensors.put(f"{name}.bias", _tensor(bias))

    def _norm_or_plain(self, step: Step | None, name: str) -> None:
        """Store a BatchNorm without weights: (x - mean) / sqrt(var + epsilon) * target-rms.

        Without one, it is a BatchNorm that changes nothing, or none where no layer of the network has one.
        """
        if step is None:
            if self.has_norm:
                plain(self.tensors, name, self.width)
            return
        component = step.component
        mean, variance = component.array("StatsMean", 1), component.array("StatsVar", 1)
        if component.number("Count") <= 0:
            self.graph.refuse(f"{step.node} has no statistics; the network is not trained")
        if mean.shape != (self.width,) or variance.shape != mean.shape:
            self.graph.refuse(
                f"{step.node} has {len(mean)} means and {len(variance)} variances, where {self.width} are expected"
            )
        offset = component.number("Epsilon") - EPSILON
        self.tensors.put(f"{name}.weight", torch.full((self.width,), component.number("TargetRms")))
        self.tensors.put(f"{name}.bias", torch.zeros(self.width))
        self.tensors.put(f"{name}.running_mean", _tensor(mean))
        self.tensors.put(f"{name}.running_var", _tensor((variance.clip(min=0.0) + offset).clip(min=0.0)))


def _norms(steps: Sequence[Step]) -> list[Step | None]:
    """Return the BatchNorm that follows each affine layer, None where none does."""
    found: list[Step | None] = []
    for step in steps:
        if step.letter == "A":
            found.append(None)
        elif step.letter == "B":
            found[-1] = step
    return found


def _tensor(array: np.ndarray[Any, Any]) -> Tensor:
    return torch.from_numpy(array.astype(np.float32))


def _told_embedding(path: Path) -> str | None:
    """Return the node that extract.config beside the model makes the output; None without that file."""
    config = path.parent / "extract.config"
    if not config.is_file():
        return None
    for line in read_config(config).splitlines():
        kind, settings = parse_line(line)
        if kind == "output-node" and settings.get("name") == "output" and settings.get("input"):
            return settings["input"].strip()
    raise CheckpointError(f"{config}: has no line such as `output-node name=output input=tdnn6.affine`")


FAMILY = Family(
    name="kaldi-xvector",
    title="Kaldi x-vector",
    matches=lambda source: not source.tensors and is_nnet3(source.path),
    convert=_convert,
    seen=False,
    is_checkpoint=False,
)
