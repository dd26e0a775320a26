"""The network of the laboratory exercise, saved by `torch.save(model.state_dict(), ...)`."""

from __future__ import annotations

from dataclasses import replace

from xvectors.config import ModelConfig, load_recipe
from xvectors.errors import CheckpointError
from xvectors.models.xvector import SPLICED_CONTEXTS
from xvectors.system.importers.family import Family, Imported, Source, has
from xvectors.system.importers.networks_1d import xvector_widths
from xvectors.system.importers.tensors import Tensors, stages

NOTE = (
    "the file does not say how its features were computed; the exercise's are assumed, Kaldi's filterbanks with this "
    "number of bands"
)


def _matches(source: Source) -> bool:
    return has(source, "tdnn1.linear.weight", "tdnn3.linear.weight", "seg_fc1.weight")


def _convert(source: Source) -> Imported:
    tensors = Tensors(source)
    depth = stages(source, r"tdnn(\d+)\.linear\.") - len(SPLICED_CONTEXTS) - 1
    first, last = tensors.take("tdnn1.linear.weight", dims=2), tensors.take(f"tdnn{depth + 4}.linear.weight", dims=2)
    num_mels, others = divmod(first.shape[1], len(SPLICED_CONTEXTS[0]))
    if others:
        raise CheckpointError(
            f"{source.path}: tdnn1.linear.weight is {list(first.shape)}; the exercise's first layer sees five frames, "
            "so its second size is a multiple of 5"
        )
    batch_norm = "bn1.running_mean" in tensors
    for number in range(1, depth + 5):
        tensors.linear(f"tdnn{number}.linear", f"tdnn{number}.linear")
        if batch_norm:
            tensors.norm(f"bn{number}", f"bn{number}")
    for name in ("seg_fc1", "seg_fc2"):
        tensors.linear(name, name)
    for name in ("pool_bn", "seg_bn1", "seg_bn2") if batch_norm else ():
        tensors.norm(name, name)
    return Imported(
        features=replace(load_recipe("lab").features, num_mels=num_mels),
        model=ModelConfig(
            name="xvector",
            settings={
                **xvector_widths(source, first.shape[0], last.shape[0]),
                "depth": depth,
                "embedding_dim": len(tensors.weights["seg_fc1.bias"]),
                "batch_norm": batch_norm,
            },
        ),
        weights=tensors.finish(ignored=("classifier.",)),
        notes=(NOTE,),
    )


FAMILIES = (Family(name="exercise", title="x-vector of the exercise", matches=_matches, convert=_convert, seen=True),)
