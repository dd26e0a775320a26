"""The back-end of Kaldi's x-vector recipes: mean.vec, transform.mat and plda, in our terms.

An embedding is centered, mapped by LDA, scaled to the length sqrt(D), whitened by the PLDA's total covariance, scaled
to the length sqrt(D) again, and scored, as `ivector-subtract-global-mean`, `transform-vec`, `ivector-normalize-length`
and `ivector-plda-scoring --normalize-length=true` do.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from xvectors.backends import LDA, PLDA, Backend, LengthNorm, Whiten
from xvectors.errors import CheckpointError
from xvectors.system.importers.kaldi.files import Array, KaldiPlda, read_array, read_plda
from xvectors.text import first_few

MEAN, TRANSFORM, MODEL = FILES = ("mean.vec", "transform.mat", "plda")
ADAPTED = "plda_adapt"
FOLDERS = "xvectors_*"
"""Folders beside the model in which Kaldi's recipes leave these files."""
NONE_NOTE = (
    "no mean.vec, transform.mat and plda are beside the model or in xvectors_* folders there, so that the system "
    "scores with the cosine"
)
ADAPTED_NOTE = "of two PLDA models plda was taken, not plda_adapt; to import that one, rename it"


def find_backend(model: Path, embedding_dim: int) -> tuple[Backend | None, tuple[str, ...]]:
    """Return the back-end beside a model, or None if it has no such files, and notes on it for the user.

    Raises CheckpointError where files are missing, are there several times, are damaged or do not fit each other.
    """
    found = {name: _find(model.parent, name) for name in FILES}
    missing = [name for name, path in found.items() if path is None]
    if len(missing) == len(FILES):
        return None, (NONE_NOTE,)
    paths = {name: path for name, path in found.items() if path is not None}
    if missing:
        raise CheckpointError(
            f"{model.parent}: has {' and '.join(paths)}, but no {' or '.join(missing)}, beside {model.name} or in "
            f"{FOLDERS} folders; put it there, or move the others away to import the network alone"
        )
    backend = read_backend(paths[MEAN], paths[TRANSFORM], paths[MODEL], embedding_dim)
    return backend, (ADAPTED_NOTE,) if _all(model.parent, ADAPTED) else ()


def _find(folder: Path, name: str) -> Path | None:
    found = [folder / name] if (folder / name).is_file() else _all(folder, name)
    if len(found) > 1:
        places = first_few([str(path.parent) for path in found], 6)
        raise CheckpointError(f"{folder}: {name} is in {places}; copy the one that belongs to the model beside it")
    return found[0] if found else None


def _all(folder: Path, name: str) -> list[Path]:
    beside = [folder, folder.parent] if folder.parent.name == "exp" else [folder]
    return sorted(path for place in beside for path in place.glob(f"{FOLDERS}/{name}") if path.is_file())


def read_backend(mean_file: Path, transform_file: Path, plda_file: Path, embedding_dim: int) -> Backend:
    """Read the three files for embeddings of `embedding_dim` dimensions; CheckpointError where they do not fit."""
    mean, transform, plda = read_array(mean_file, 1), read_array(transform_file, 2), read_plda(plda_file)
    if len(mean) != embedding_dim:
        raise CheckpointError(f"{mean_file}: has {len(mean)} values, where embeddings have {embedding_dim}")
    rows, columns = transform.shape
    if columns not in (embedding_dim, embedding_dim + 1):
        raise CheckpointError(
            f"{transform_file}: is {rows} x {columns}, where embeddings have {embedding_dim} dimensions; expected are "
            f"{embedding_dim} columns, or one more for an offset"
        )
    if len(plda.mean) != rows:
        raise CheckpointError(f"{plda_file}: has {len(plda.mean)} dimensions, where {transform_file.name} gives {rows}")
    try:
        return kaldi_backend(mean, transform, plda)
    except np.linalg.LinAlgError as error:
        raise CheckpointError(f"{transform_file}: cannot be inverted: {error}") from error


def kaldi_backend(mean: Array, transform: Array, plda: KaldiPlda) -> Backend:
    """Make the back-end that scores as Kaldi does.

    Parameters
    ----------
    mean
        [E], subtracted from embeddings.
    transform
        [D, E], or [D, E + 1] with an offset that is added, of rank D.
    plda
        The PLDA of the D transformed dimensions.

    Raises
    ------
    numpy.linalg.LinAlgError
        The rows of the transform are not independent.
    """
    dim = len(transform)
    linear = transform[:, : len(mean)]
    if np.linalg.matrix_rank(linear) < dim:
        raise np.linalg.LinAlgError(f"its {dim} rows are not independent")
    lda = LDA(dim=dim)
    offset = transform[:, len(mean) :].sum(axis=1)
    lda.mean_ = mean - np.linalg.pinv(linear) @ offset  # so that linear @ (x - mean_) = linear @ (x - mean) + offset
    lda.projection_ = np.ascontiguousarray(linear.T)
    # LengthNorm scales to length 1, Kaldi to sqrt(dim): the difference goes into what follows
    length = np.sqrt(dim)
    total = 1.0 + plda.psi
    whiten = Whiten()
    whiten.mean_ = plda.mean / length
    whiten.projection_ = length * plda.transform.T / np.sqrt(total)
    scorer = PLDA.from_covariances(
        np.zeros(dim), within=np.diag(1.0 / (dim * total)), between=np.diag(plda.psi / (dim * total))
    )
    return Backend([lda, LengthNorm(), whiten, LengthNorm()], scorer)
