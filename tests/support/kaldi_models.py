"""Small x-vector networks and back-ends in Kaldi's formats, written and evaluated without the code under test.

The formats follow Kaldi's Nnet::Write, the components' Write, MatrixBase::Write and Plda::Write.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
CONTEXTS = ((-2, -1, 0, 1, 2), (-2, 0, 2), (-3, 0, 3), (0,), (0,))
WIDTHS = (8, 8, 8, 8, 12)
EMBEDDING_DIM = 6
Contexts = Sequence[Sequence[int]]
NUM_CLASSES = 4
EPSILON, TARGET_RMS, VARIANCE_FLOOR = 1e-3, 1.5, 1e-10


def draw_network(
    input_dim: int,
    seed: int = 0,
    *,
    batch_norm: bool = True,
    contexts: Contexts = CONTEXTS,
    widths: Sequence[int] = WIDTHS,
    segment_dims: tuple[int, int] = (EMBEDDING_DIM, EMBEDDING_DIM),
) -> dict[str, Array]:
    """Return weights and statistics by names such as `tdnn1.weight` and `tdnn1.var`.

    Frame layers are `tdnn1` and so on, the segment layers `tdnn6` and `tdnn7`.
    """
    generator = np.random.default_rng(seed)
    parameters: dict[str, Array] = {}

    def layer(name: str, inputs: int, outputs: int, *, normed: bool) -> None:
        parameters[f"{name}.weight"] = generator.standard_normal((outputs, inputs)) / np.sqrt(inputs)
        parameters[f"{name}.bias"] = 0.3 * generator.standard_normal(outputs)
        if normed:
            parameters[f"{name}.mean"] = generator.uniform(0.0, 1.0, outputs)
            parameters[f"{name}.var"] = generator.uniform(0.01, 1.0, outputs)

    width = input_dim
    for number, (context, outputs) in enumerate(zip(contexts, widths, strict=True), start=1):
        layer(f"tdnn{number}", width * len(context), outputs, normed=batch_norm)
        width = outputs
    first, second = segment_dims
    layer("tdnn6", 2 * width, first, normed=batch_norm)
    layer("tdnn7", first, second, normed=batch_norm)
    layer("output", second, NUM_CLASSES, normed=False)
    # float32, as in the files
    return {name: value.astype(np.float32).astype(np.float64) for name, value in parameters.items()}


def evaluate(
    parameters: Mapping[str, Array], features: Array, layers: int = 6, *, contexts: Contexts = CONTEXTS
) -> Array:
    """Compute `tdnn6.affine`, or `tdnn7.affine` for `layers` 7, of features [frames, dim], as the graph says."""

    def affine(x: Array, name: str) -> Array:
        return x @ parameters[f"{name}.weight"].T + parameters[f"{name}.bias"]

    def rest(x: Array, name: str) -> Array:
        x = np.maximum(x, 0.0)
        if f"{name}.mean" not in parameters:
            return x
        return TARGET_RMS * (x - parameters[f"{name}.mean"]) / np.sqrt(parameters[f"{name}.var"] + EPSILON)

    frames = dict(enumerate(features))
    for number, context in enumerate(contexts, start=1):
        seen = [t for t in frames if all(t + offset in frames for offset in context)]
        frames = {
            t: rest(
                affine(np.concatenate([frames[t + offset] for offset in context]), f"tdnn{number}"), f"tdnn{number}"
            )
            for t in seen
        }
    x = np.stack(list(frames.values()))
    variance = np.maximum((x**2).mean(axis=0) - x.mean(axis=0) ** 2, VARIANCE_FLOOR)
    segment = affine(np.concatenate([x.mean(axis=0), np.sqrt(variance)]), "tdnn6")
    return segment if layers == 6 else affine(rest(segment, "tdnn6"), "tdnn7")


class Writer:
    """Collects the bytes of a file in Kaldi's binary or text format."""

    def __init__(self, *, binary: bool) -> None:
        self.binary = binary
        self.content = b"\0B" if binary else b""

    def token(self, text: str) -> None:
        self.content += text.encode() + b" "

    def text(self, text: str) -> None:
        self.content += text.encode()

    def integer(self, value: int) -> None:
        self.content += b"\4" + struct.pack("<i", value) if self.binary else f"{value} ".encode()

    def real(self, value: float, *, double: bool = False) -> None:
        if self.binary:
            self.content += b"\10" + struct.pack("<d", value) if double else b"\4" + struct.pack("<f", value)
        else:
            self.content += f"{value:.7g} ".encode()

    def flag(self, value: bool) -> None:
        self.content += (b"T" if value else b"F") + (b"" if self.binary else b" ")

    def array(self, values: Array, *, double: bool = False) -> None:
        if self.binary:
            self.content += (b"D" if double else b"F") + (b"M " if values.ndim == 2 else b"V ")
            for size in values.shape:
                self.integer(size)
            self.content += values.astype("<f8" if double else "<f4").tobytes()
        elif values.ndim == 1:
            self.content += f" [ {''.join(f'{value:.9g} ' for value in values)}]\n".encode()
        else:
            rows = "".join("\n  " + "".join(f"{value:.9g} " for value in row) for row in values)
            self.content += f" [{rows}]\n".encode()


def network_bytes(
    parameters: Mapping[str, Array],
    *,
    binary: bool,
    output: str = "output.log-softmax",
    kinds: Mapping[str, str] | None = None,
    inputs: Mapping[str, str] | None = None,
    contexts: Contexts = CONTEXTS,
) -> bytes:
    """Write a network.

    Parameters
    ----------
    output
        Node of the output, such as `tdnn6.affine` after `nnet3-copy --nnet-config=extract.config`.
    kinds
        Components by name that are of another kind than in Kaldi's recipes.
    inputs
        Inputs of nodes that differ from the recipes'.
    contexts
        The frames that each frame layer sees.
    """
    input_dim = parameters["tdnn1.weight"].shape[1] // len(contexts[0])
    pooled_dim = len(parameters[f"tdnn{len(contexts)}.bias"])
    writer = Writer(binary=binary)
    writer.token("<Nnet3>")
    writer.text(f"\ninput-node name=input dim={input_dim}\n")
    components: list[tuple[str, str]] = []

    def node(name: str, kind: str, descriptor: str) -> str:
        components.append((name, (kinds or {}).get(name, kind)))
        described = (inputs or {}).get(name, descriptor)
        writer.text(f"component-node name={name} component={name} input={described}\n")
        return name

    def layer(name: str, descriptor: str) -> str:
        last = node(f"{name}.affine", "NaturalGradientAffineComponent", descriptor)
        last = node(f"{name}.relu", "RectifiedLinearComponent", last)
        return node(f"{name}.batchnorm", "BatchNormComponent", last) if f"{name}.mean" in parameters else last

    last = "input"
    for number, context in enumerate(contexts, start=1):
        taps = [last if offset == 0 else f"Offset({last}, {offset})" for offset in context]
        last = layer(f"tdnn{number}", taps[0] if len(taps) == 1 else f"Append({', '.join(taps)})")
    last = node("stats-extraction-0-10000", "StatisticsExtractionComponent", last)
    last = node("stats-pooling-0-10000", "StatisticsPoolingComponent", last)
    last = layer("tdnn7", layer("tdnn6", f"Round({last}, 1)"))
    node("output.affine", "NaturalGradientAffineComponent", last)
    node("output.log-softmax", "LogSoftmaxComponent", "output.affine")
    writer.text(f"output-node name=output input={output} objective=linear\n\n")
    writer.token("<NumComponents>")
    writer.integer(len(components))
    writer.text("" if binary else "\n")
    for name, kind in components:
        writer.token("<ComponentName>")
        writer.token(name)
        writer.token(f"<{kind}>")
        _component(writer, kind, name.partition(".")[0], parameters, pooled_dim)
        writer.token(f"</{kind}>")
        writer.text("" if binary else "\n")
    writer.token("</Nnet3>")
    return writer.content


def _component(writer: Writer, kind: str, layer: str, parameters: Mapping[str, Array], pooled_dim: int) -> None:
    def fields(*values: tuple[str, Any]) -> None:
        for name, value in values:
            writer.token(f"<{name}>")
            if isinstance(value, bool):
                writer.flag(value)
            elif isinstance(value, int):
                writer.integer(value)
            elif isinstance(value, float):
                writer.real(value, double=name == "Count")
            else:
                writer.array(value)

    if kind == "NaturalGradientAffineComponent":
        fields(
            ("MaxChange", 0.75),
            ("LearningRate", 0.001),
            ("LinearParams", parameters[f"{layer}.weight"]),
            ("BiasParams", parameters[f"{layer}.bias"]),
            *(("RankIn", 20), ("RankOut", 80), ("UpdatePeriod", 4), ("NumSamplesHistory", 2000.0), ("Alpha", 4.0)),
        )
    elif kind == "BatchNormComponent":
        mean, variance = parameters[f"{layer}.mean"], parameters[f"{layer}.var"]
        fields(
            ("Dim", len(mean)),
            ("BlockDim", len(mean)),
            *(("Epsilon", EPSILON), ("TargetRms", TARGET_RMS), ("TestMode", False), ("Count", 4096.0)),
            ("StatsMean", mean),
            ("StatsVar", variance),
        )
    elif kind == "StatisticsExtractionComponent":
        fields(("InputDim", pooled_dim), ("InputPeriod", 1), ("OutputPeriod", 1), ("IncludeVarinance", True))
    elif kind == "StatisticsPoolingComponent":
        fields(
            ("InputDim", 2 * pooled_dim + 1),
            *(("InputPeriod", 1), ("LeftContext", 0), ("RightContext", 10000), ("NumLogCountFeatures", 0)),
            *(("OutputStddevs", True), ("VarianceFloor", VARIANCE_FLOOR)),
        )
    else:
        average = np.zeros(3)
        fields(("Dim", 3), ("ValueAvg", average), ("DerivAvg", average), ("Count", 0.0), ("SelfRepairScale", 1e-5))


def draw_backend(dim: int, seed: int = 0, *, offset: bool = True) -> dict[str, Array]:
    """Return the mean of embeddings, the LDA to `dim` dimensions, and the PLDA's mean, transform and psi."""
    generator = np.random.default_rng(seed)
    drawn = {
        "mean": generator.standard_normal(EMBEDDING_DIM),
        "lda": generator.standard_normal((dim, EMBEDDING_DIM + offset)),
        "plda_mean": 0.2 * generator.standard_normal(dim),
        "plda_transform": generator.standard_normal((dim, dim)),
        "psi": np.sort(generator.uniform(0.1, 6.0, dim))[::-1].copy(),
    }
    single = {name: drawn[name].astype(np.float32).astype(np.float64) for name in ("mean", "lda")}
    return {**drawn, **single}


def write_backend(folder: Path, backend: Mapping[str, Array], *, binary: bool) -> None:
    """Write mean.vec, transform.mat and plda."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, key in (("mean.vec", "mean"), ("transform.mat", "lda")):
        writer = Writer(binary=binary)
        writer.array(backend[key])
        (folder / name).write_bytes(writer.content)
    writer = Writer(binary=binary)
    writer.token("<Plda>")
    for key in ("plda_mean", "plda_transform", "psi"):
        writer.array(backend[key], double=True)
    writer.token("</Plda>")
    (folder / "plda").write_bytes(writer.content)


def plda_scores(backend: Mapping[str, Array], enroll: Array, test: Array) -> Array:
    """Score embeddings [k, E] against [t, E] by the formulas of Kaldi's programs, with one recording a speaker.

    ivector-subtract-global-mean, transform-vec, ivector-normalize-length, Plda::TransformIvector with
    normalize-length, and Plda::LogLikelihoodRatio as the difference of two Gaussian log densities.
    """
    psi = backend["psi"]

    def transformed(embedding: Array) -> Array:
        lda, centered = backend["lda"], embedding - backend["mean"]
        mapped = lda[:, : len(centered)] @ centered + lda[:, len(centered) :].sum(axis=1)
        mapped = mapped * np.sqrt(len(mapped)) / np.linalg.norm(mapped)
        latent = backend["plda_transform"] @ (mapped - backend["plda_mean"])
        return np.asarray(latent * np.sqrt(len(latent) / (latent**2 / (psi + 1.0)).sum()))

    def log_density(x: Array, mean: Array, variance: Array) -> float:
        return float(-0.5 * (np.log(2 * np.pi * variance) + (x - mean) ** 2 / variance).sum())

    return np.array(
        [
            [
                log_density(u, psi / (psi + 1.0) * v, 1.0 + psi / (psi + 1.0)) - log_density(u, 0.0 * u, 1.0 + psi)
                for u in map(transformed, test)
            ]
            for v in map(transformed, enroll)
        ]
    )


def model_folder(folder: Path, files: Sequence[tuple[str, bytes | str]]) -> Path:
    """Write files of a model's folder; returns the folder."""
    for name, content in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder
