"""A cohort of impostors for score normalization, given as embeddings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xvectors.backends import BACKENDS, Backend
from xvectors.backends.estimator import finite_rows
from xvectors.embeddings import load_embeddings
from xvectors.errors import CheckpointError, ConfigError, ManifestError, ShapeError
from xvectors.text import agree, count
from xvectors.verification.new_domain import Adaptation


@dataclass(frozen=True, kw_only=True, eq=False)
class Cohort:
    """Embeddings of impostors and their names, or None; and their record in calibration.toml."""

    given: tuple[NDArray[Any], NDArray[np.str_]] | None
    facts: dict[str, Any]

    @classmethod
    def read(cls, cohort: str | Path | None, dim: int) -> Cohort:
        if cohort is None:
            return cls(given=None, facts={})
        rows, names = _embeddings_of(cohort, dim, "speaker")
        table = {"file": Path(cohort).name, "num_speakers": len(np.unique(names)), "num_embeddings": len(rows)}
        return cls(given=(rows, _cohort_speakers(cohort, names)), facts={"cohort": table})

    def complete(self, backend: Backend) -> None:
        """Pass the cohort to a fitted back-end that uses one."""
        if self.given is not None and backend.normalizer is not None:
            backend.use_cohort(*self.given)

    def then(self, adaptation: Adaptation | None) -> Callable[[Backend], None]:
        """Return `complete`, followed by the adaptation of the back-end, if there is one."""

        def complete(backend: Backend) -> None:
            self.complete(backend)
            if adaptation is not None:
                adaptation.complete(backend)

        return complete


def check_cohort_used(name: str, backend: Backend, cohort: str | Path | None) -> None:
    """Raise ConfigError if the back-end would not use the cohort."""
    if cohort is not None and backend.normalizer is None:
        others = ", ".join(other for other, make in BACKENDS.items() if make().normalizer is not None)
        raise ConfigError(
            f"back-end {name} has no use for --cohort {cohort}; name one that has with --backend ({others}), or leave "
            "--cohort out"
        )


def _embeddings_of(path: str | Path, dim: int, *columns: str) -> list[NDArray[Any]]:
    arrays = load_embeddings(Path(path), *columns)
    try:
        rows = finite_rows(arrays["embeddings"], dim, "system")
    except ShapeError as error:
        raise CheckpointError(f"{path}: {error}") from error
    return [rows, *(arrays[column] for column in columns)]


def _cohort_speakers(cohort: str | Path, speakers: NDArray[Any]) -> NDArray[np.str_]:
    """Validate the speaker names of the cohort: recordings without one would count as a single speaker."""
    names = speakers.astype(np.str_)
    nameless = int(np.count_nonzero(np.char.strip(names) == ""))
    if nameless:
        raise ManifestError(
            f"{cohort}: {nameless} of {count(len(names), 'embedding')} {agree(nameless, 'names', 'name')} "
            "no speaker; embed a manifest with all"
        )
    if len(np.unique(names)) < 2:
        raise ManifestError(f"{cohort}: a cohort of one speaker; score normalization needs at least two, better 200")
    return names
