"""Small ONNX files that stand for speaker models of other toolkits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

MELS, DIM = 80, 16


def write_network(
    path: Path,
    shape: tuple[int | str, ...] = ("batch", "frames", MELS),
    metadata: dict[str, str] | None = None,
    outputs: tuple[str, ...] = ("embedding",),
    end: str = "",
) -> Path:
    """A network that multiplies the mean over axis 1, of frames or of the samples' first values, by a matrix.

    At the `end` "batch mean" it subtracts half the mean over the batch, and at "one row" it takes one recording only,
    whatever its shape states.
    """
    matrix = np.random.default_rng(1).standard_normal((MELS if len(shape) != 2 else 1, DIM)).astype(np.float32)
    nodes, constants = [], [helper.make_tensor("matrix", TensorProto.FLOAT, matrix.shape, matrix.tobytes(), raw=True)]
    constants.append(helper.make_tensor("axis", TensorProto.INT64, [1], [1]))
    if len(shape) != 2:
        nodes.append(helper.make_node("ReduceMean", ["input", "axis"], ["mean"], keepdims=0))
    else:
        nodes.append(helper.make_node("Mul", ["input", "input"], ["squares"]))
        nodes.append(helper.make_node("ReduceMean", ["squares", "axis"], ["mean"], keepdims=1))
    pooled = "mean"
    if end == "batch mean":
        constants += [helper.make_tensor("zero", TensorProto.INT64, [1], [0])]
        constants += [helper.make_tensor("half", TensorProto.FLOAT, [], [0.5])]
        nodes.append(helper.make_node("ReduceMean", ["mean", "zero"], ["common"], keepdims=1))
        nodes.append(helper.make_node("Mul", ["common", "half"], ["part"]))
        nodes.append(helper.make_node("Sub", ["mean", "part"], ["own"]))
        pooled = "own"
    if end == "one row":
        constants.append(helper.make_tensor("row", TensorProto.INT64, [2], [1, matrix.shape[0]]))
        nodes.append(helper.make_node("Reshape", ["mean", "row"], ["own"]))
        pooled = "own"
    nodes += [helper.make_node("MatMul", [pooled, "matrix"], [name]) for name in outputs]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [shape[0], DIM]) for name in outputs],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, metadata or {})
    onnx.save(model, path)
    return path


def copy_of(model: Any) -> Any:
    """An equal `onnx.ModelProto`: an export writes metadata into its own."""
    copied = type(model)()
    copied.CopyFrom(model)
    return copied
