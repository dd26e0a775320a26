"""Write a system to an .onnx file, and check it against the system with onnxruntime."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from xvectors.encoder import SpeakerEncoder
from xvectors.encoder.engines.onnx import FLOAT32, INT8, OnnxDescription, OnnxEngine, sealed
from xvectors.errors import ExportError, MissingExtraError
from xvectors.export.checking import TOLERANCE, Difference, compare_embeddings, signals, worst
from xvectors.export.graph import WaveformGraph
from xvectors.files import atomic_write, exclusive
from xvectors.system import find_system
from xvectors.system.serialization import load_weights, make_features, make_model, read_description
from xvectors.verification import fingerprint_of, verifier_of

OPSET = 23
"""Version of the ONNX operator set."""
MAX_FOLDED_BYTES = 1 << 31
MIN_COSINE = 0.9
"""Lowest cosine between the embeddings of int8 and of the system, on the test signals; below it something is broken."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A written file: its description, its size, and its differences from the system on the test signals."""

    path: Path
    description: OnnxDescription
    size_bytes: int
    differences: tuple[Difference, ...]


def export_onnx(system: str | Path, path: str | Path, *, int8: bool = False) -> Exported:
    """Write a system to an ONNX file, atomically, and check it against the system.

    The input `waveform` is float32 [batch, samples] at the system's sample rate, with recordings of one length; the
    output `embedding` is float32 [batch, embedding_dim].

    Parameters
    ----------
    system
        A system directory, or `starter`.
    path
        The file to write.
    int8
        Store the weights of convolutions and matrix products as bytes, and quantize their inputs at run time; the
        features stay float32.

    Raises
    ------
    MissingExtraError
        onnx, onnxscript or onnxruntime is not installed.
    CheckpointError
        The system cannot be read.
    StorageError
        The file cannot be written.
    ExportError
        The embeddings of the file differ from those of the system.
    """
    path = Path(path)
    check_installed(path)
    import onnx

    folder = find_system(system)
    source = read_description(folder)
    fbank, network = make_features(source.recipe), make_model(source.recipe, len(source.speakers))
    embedding_map = load_weights(folder, network)
    min_samples = fbank.samples_for(network.context_frames)
    graph = WaveformGraph(fbank, network, embedding_map, int8=int8).eval()
    model = build_onnx(graph, min_samples, fbank.sample_rate_hz)
    if int8:
        model = _quantized(model)
    verifier = verifier_of(folder)
    description = OnnxDescription(
        sample_rate_hz=fbank.sample_rate_hz,
        embedding_dim=network.embedding_dim,
        min_samples=min_samples,
        channel=source.recipe.data.channel,
        fingerprint=fingerprint_of(folder),
        precision=INT8 if int8 else FLOAT32,
        recipe=source.recipe.name,
        versions={
            **{f"trained with {name}": version for name, version in source.versions.items()},
            "exported with xvectors": metadata.version("xvectors"),
        },
        verifier=verifier,
    )
    backend_file = folder.backend.read_bytes() if folder.calibration.is_file() else None
    onnx.helper.set_model_props(model, description.to_metadata(backend_file))
    content = sealed(model.SerializeToString())
    with exclusive(path.with_name(f".{path.name}.lock"), of=str(path)), atomic_write(path, private=True) as temporary:
        temporary.write_bytes(content)
        exported = SpeakerEncoder(OnnxEngine(temporary, device="cpu", threads=1))
        recordings = signals(fbank.sample_rate_hz, min_samples)
        differences = compare_embeddings(
            SpeakerEncoder.from_pretrained(folder.path, device="cpu"), exported, recordings
        )
        _check_differences(path, differences, description.precision)
    return Exported(path=path, description=description, size_bytes=len(content), differences=tuple(differences))


def check_onnx(
    system: str | Path, path: str | Path, recordings: Mapping[str, Path | NDArray[np.floating]]
) -> list[Difference]:
    """Compare an exported file with its system on named recordings.

    Raises
    ------
    ExportError
        The file was exported from another system, or its embeddings differ too much.
    CheckpointError
        The system or the file cannot be read.
    AudioError
        A recording cannot be read.
    """
    folder = find_system(system)
    engine = OnnxEngine(path, device="cpu")
    if engine.fingerprint != fingerprint_of(folder):
        raise ExportError(f"{path} was exported from another system than {system}; export it again")
    differences = compare_embeddings(
        SpeakerEncoder.from_pretrained(folder.path, device="cpu"), SpeakerEncoder(engine), recordings
    )
    _check_differences(Path(path), differences, engine.description.precision)
    return differences


def build_onnx(graph: WaveformGraph, min_samples: int, sample_rate_hz: int) -> Any:
    """Export a system's graph to an `onnx.ModelProto` without metadata, for waveforms of at least `min_samples`."""
    # longer than any context, so that the exporter treats no length as special
    example = torch.randn(2, min_samples + 2 * sample_rate_hz, generator=torch.Generator().manual_seed(0))
    shape = {0: torch.export.Dim("batch"), 1: torch.export.Dim("samples", min=min_samples)}
    return export_graph(graph, "waveform", example, shape, opset=OPSET)


def export_graph(graph: nn.Module, name: str, example: Tensor, shape: Mapping[int, Any], *, opset: int) -> Any:
    """Export a graph with one input `name`, and the output `embedding`, to an `onnx.ModelProto` without metadata.

    `shape` has the sizes that vary, by dimension.
    """
    from onnxscript import optimizer

    with torch.inference_mode(), warnings.catch_warnings(), _quiet():
        warnings.simplefilter("ignore")  # from torch, about its own exporter
        program = torch.onnx.export(
            graph,
            (example,),
            dynamo=True,
            opset_version=opset,
            input_names=[name],
            output_names=["embedding"],
            dynamic_shapes={name: dict(shape)},
            verbose=False,
        )
        assert program is not None
        # transpose large weights too, now instead of each time the file is loaded
        model = optimizer.optimize(
            program.model_proto, input_size_limit=MAX_FOLDED_BYTES, output_size_limit=MAX_FOLDED_BYTES
        )
    _forget_origin(model)
    sizes = model.graph.input[0].type.tensor_type.shape.dim
    assert all(sizes[at].dim_param for at in shape), f"the graph takes only one size: {sizes}"
    return model


def _quantized(model: Any) -> Any:
    """Return the graph with dynamically quantized convolutions and matrix products, but float32 features."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    features = [node.name for node in model.graph.node if any(name.startswith("features.") for name in node.input)]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), _quiet():
        warnings.simplefilter("ignore")
        source, target = Path(folder) / "float32.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, source)
        quantize_dynamic(
            source,
            target,
            op_types_to_quantize=["Conv", "MatMul", "Gemm"],
            weight_type=QuantType.QUInt8,  # onnxruntime has no convolution with signed weights
            nodes_to_exclude=features,
        )
        return onnx.load(target)


def _forget_origin(model: Any) -> None:
    """Remove the exporter's notes on each node: the lines of source code it comes from, with their paths."""
    del model.metadata_props[:], model.graph.metadata_props[:]
    for part in (*model.graph.node, *model.graph.initializer, *model.graph.input, *model.graph.output):
        del part.metadata_props[:]
        part.doc_string = ""
    del model.graph.value_info[:]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the output of exporter and quantizer, but not their warnings."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)


def check_installed(path: Path) -> None:
    """Raise MissingExtraError where `path` cannot be written for want of a package."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(f"{path}: exporting needs {error.name}; pip install 'xvectors[onnx]'") from error


def _check_differences(path: Path, differences: list[Difference], precision: str) -> None:
    if not differences:
        return
    if precision == FLOAT32:
        largest = worst(differences)
        if not largest.largest <= TOLERANCE:
            raise ExportError(
                f"{path}: the embedding of {largest.name} differs by {largest.largest:.1e} from torch's, more than "
                f"{TOLERANCE:.0e}; do not use the file, and report this system's network and features"
            )
        return
    furthest = min(differences, key=lambda difference: difference.cosine)
    if not furthest.cosine >= MIN_COSINE:
        raise ExportError(
            f"{path}: with int8 the embedding of {furthest.name} has a cosine of {furthest.cosine:.3f} with torch's, "
            f"less than {MIN_COSINE}; this network is not fit for int8, export it without"
        )
