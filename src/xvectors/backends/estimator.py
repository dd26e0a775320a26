"""The base class of the parts of a back-end, and checks of embeddings.

Arrays that `fit` learns end with an underscore.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xvectors.backends.dot_products import Rows
from xvectors.errors import CheckpointError, ConfigError, ShapeError
from xvectors.trials.pairs import speaker_numbers

Array = NDArray[np.float64]


class Estimator:
    """Parameters are the arguments of `__init__`, kept under their names; `fitted_names` are what `fit` learns."""

    fitted_names: ClassVar[tuple[str, ...]] = ()

    def parameters(self) -> dict[str, Any]:
        names = [name for name in inspect.signature(type(self).__init__).parameters if name != "self"]
        # `object.__init__`, which parts without parameters have, takes *args and **kwargs
        return {name: getattr(self, name) for name in names if name not in ("args", "kwargs")}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return what `fit` learned, by name."""
        self._check_fitted()
        return {name: np.asarray(getattr(self, name)) for name in self.fitted_names}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Restore the result of `arrays`. Raises CheckpointError for missing or unknown names."""
        if set(arrays) != set(self.fitted_names):
            raise CheckpointError(
                f"{type(self).__name__} needs the arrays {', '.join(self.fitted_names) or 'none'}, "
                f"but {', '.join(sorted(arrays)) or 'none'} were saved"
            )
        for name, array in arrays.items():
            setattr(self, name, array if array.ndim else array.item())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.parameters().items())})"

    def _check_fitted(self) -> None:
        if not all(hasattr(self, name) for name in self.fitted_names):
            raise ConfigError(f"this {type(self).__name__} is not fitted: call fit(embeddings, speakers) first")


class Scorer(Protocol):
    """Scores are dot products of a row of each side."""

    def fit(self, embeddings: ArrayLike, speakers: ArrayLike) -> Self: ...

    def project(self, enroll: ArrayLike, test: ArrayLike, counts: ArrayLike | None = None) -> tuple[Rows, Rows]:
        """Rows [k, d] and [t, d], float32, of enroll [k, D], means of `counts` [k] recordings, and test [t, D]."""
        ...


def real_rows(embeddings: ArrayLike) -> NDArray[Any]:
    """Return embeddings [n, D] as float32 or float64. Raises ShapeError for other shapes or kinds of values."""
    array: NDArray[Any] = np.asarray(embeddings)
    if array.ndim != 2 or array.shape[1] == 0:
        raise ShapeError(f"embeddings have the shape {list(array.shape)}: give one row a recording, [n, D]")
    if array.dtype.kind not in "iuf":
        raise ShapeError(f"embeddings are of type {array.dtype}: give real numbers")
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)


def finite_rows(embeddings: ArrayLike, dim: int | None = None, what: str = "back-end") -> NDArray[Any]:
    """Embeddings [n, D], float32 or float64, all finite.

    Raises
    ------
    ShapeError
        Another shape or kind of values, NaN or infinity, or not `dim` dimensions where that is given.
    """
    array = real_rows(embeddings)
    if dim is not None and array.shape[1] != dim:
        raise ShapeError(
            f"embeddings have {array.shape[1]} dimensions, but this {what} was fitted on {dim}: "
            "use embeddings of the same network"
        )
    usable = np.isfinite(array).all(axis=1)
    if not usable.all():
        row = int(np.flatnonzero(~usable)[0])
        more = int(np.count_nonzero(~usable)) - 1
        others = f" (and {more} more rows like it)" if more else ""
        raise ShapeError(f"embedding row {row} holds a value that is not finite{others}; leave it out")
    return array


def labeled_rows(embeddings: ArrayLike, speakers: ArrayLike) -> tuple[NDArray[Any], NDArray[np.int32]]:
    """Check embeddings [n, D], and number the speakers of the rows [n] from 0 in sorted order."""
    rows, numbers = finite_rows(embeddings), speaker_numbers(speakers)
    if len(rows) != len(numbers):
        raise ShapeError(f"{len(rows)} embeddings, but {len(numbers)} speakers: give one speaker a row")
    return rows, numbers
