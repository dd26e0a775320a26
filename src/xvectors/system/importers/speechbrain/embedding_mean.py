"""The mean, and where used the deviation, by which SpeechBrain normalizes embeddings: `mean_var_norm_emb.ckpt`.

`encode_batch(normalize=True)` applies them, and so did `verify_files` until release 1.0; the score is the cosine.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xvectors.backends import Backend, Center, Whiten
from xvectors.errors import CheckpointError
from xvectors.system.importers.checkpoint import read_checkpoint

STATISTICS = "mean_var_norm_emb.ckpt"
HYPERPARAMS = "hyperparams.yaml"
EPSILON = 1e-10
"""The least deviation that SpeechBrain divides by."""
MAX_YAML_BYTES = 1 << 20
BLOCK = re.compile(r"^mean_var_norm_emb:.*\n((?:[ \t]+.*\n|[ \t]*\n)*)", re.MULTILINE)
STD_NORM = re.compile(r"^[ \t]+std_norm:[ \t]*(\w+)", re.MULTILINE)
NOTE = (
    f"scores are cosines after the {{what}} of {STATISTICS}, as in SpeechBrain's encode_batch(normalize=True) and the "
    "verify_files of its early releases; that of 1.1 leaves it out, for which move the file away and import again"
)


def find_backend(model: Path, embedding_dim: int) -> tuple[Backend | None, tuple[str, ...]]:
    """Return the back-end that `mean_var_norm_emb.ckpt` beside a model makes, and a note on it; None without the file.

    The deviations are used where the file has one for each dimension, unless `hyperparams.yaml` says std_norm: False.

    Raises CheckpointError where the file is damaged, was not trained, or has another number of dimensions.
    """
    path = model.parent / STATISTICS
    if not path.is_file():
        return None, ()
    checkpoint = read_checkpoint(path)
    if missing := {"glob_mean", "glob_std"} - checkpoint.tensors.keys():
        raise CheckpointError(f"{path}: lacks {' and '.join(sorted(missing))}; {_remedy(model)}")
    mean, deviation = (checkpoint.tensors[name].flatten().numpy() for name in ("glob_mean", "glob_std"))
    if len(mean) != embedding_dim:
        raise CheckpointError(
            f"{path}: glob_mean has {len(mean)} values, where embeddings have {embedding_dim}; {_remedy(model)}"
        )
    if checkpoint.extras.get("count") == 0:
        raise CheckpointError(f"{path}: its count of embeddings is 0, so it holds no mean; {_remedy(model)}")
    if len(deviation) not in (1, embedding_dim):
        raise CheckpointError(
            f"{path}: glob_std has {len(deviation)} values, where 1 or {embedding_dim} are expected; {_remedy(model)}"
        )
    if len(deviation) == 1 or not _divides(model.parent / HYPERPARAMS):
        deviation = np.ones(1, dtype=np.float32)
    what = "mean" if (deviation == 1.0).all() else "mean and deviations"
    return normalized_cosine(mean, deviation), (NOTE.format(what=what),)


def normalized_cosine(mean: NDArray[np.float32], deviation: NDArray[np.float32]) -> Backend:
    """Return the back-end that scores by the cosine of (x - mean) / deviation, of embeddings x.

    Parameters
    ----------
    mean
        [D].
    deviation
        [D], or [1] for all dimensions.
    """
    centered = Center() if (deviation == 1.0).all() else Whiten()
    centered.mean_ = mean.astype(np.float64)
    if isinstance(centered, Whiten):
        scale = 1.0 / np.maximum(deviation.astype(np.float64), EPSILON)
        centered.projection_ = np.diag(np.broadcast_to(scale, mean.shape))
    return Backend([centered])


def _divides(hyperparams: Path) -> bool:
    """Whether SpeechBrain's settings, read as text, leave the division by the deviation on, as its class does."""
    if not hyperparams.is_file():
        return True
    try:
        with hyperparams.open(encoding="utf-8") as file:
            text = file.read(MAX_YAML_BYTES) + "\n"
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{hyperparams}: is not a readable file of settings: {error}") from error
    block = BLOCK.search(text)
    stated = block and STD_NORM.search(block[1])
    return stated is None or stated[1].lower() not in ("false", "no", "off")


def _remedy(model: Path) -> str:
    return f"get it from the model's publisher again, or move it away to import {model.name} alone"
