"""The verifier of a system, with its files backend.npz and calibration.toml: scores and natural-log LLRs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xvectors.audio.condition import CONDITION_NAMES
from xvectors.backends import (
    AffineCalibration,
    Backend,
    ConditionCalibration,
    load_backend,
    log_duration,
    make_backend,
    pair_quality,
    save_backend,
)
from xvectors.config import parse_toml, to_toml
from xvectors.errors import CheckpointError, ConfigError, ShapeError, StorageError
from xvectors.files import write_text
from xvectors.metrics import bayes_threshold
from xvectors.text import short_repr
from xvectors.trials import Trials
from xvectors.verification.fingerprint import FingerprintFiles, fingerprint_of

FORMAT_VERSION = 2
"""Format 2 is bound to the fingerprint of the system; format 1 was bound to its weights."""
MIN_HEARD_S = 0.01
"""Seconds of speech assumed for a recording without detected speech that needs an LLR."""
P_TARGET = 0.5
"""Default prior of a target trial in decisions."""
BLOCK = 16_384
"""Number of trials whose LLRs are computed at once."""
IMPORTED = "imported"
"""Name of a back-end that came with an imported model. It may be without calibration."""


@short_repr()
@dataclass(frozen=True, kw_only=True, eq=False)
class Verifier:
    """A back-end with its calibration and their record.

    Attributes
    ----------
    backend : the fitted back-end
    name : name of the back-end, such as "cosine"
    calibration : None for a system without calibration, whose scores are not LLRs
    backend_table, basis, figures : plain values as in calibration.toml: the selection of the back-end, the calibration
        set, and the results on held-out speakers
    p_target : prior of a target trial in decisions, with equal costs
    condition : calibration for the condition of both sides; None where it could not be learned
    bounds : least and greatest LLR that the calibration set can bear out; None for calibrations of earlier versions
    """

    backend: Backend
    name: str
    calibration: AffineCalibration | None = None
    backend_table: Mapping[str, Any] = field(default_factory=dict)
    basis: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, Any] = field(default_factory=dict)
    p_target: float = P_TARGET
    condition: ConditionCalibration | None = None
    bounds: tuple[float, float] | None = None

    @property
    def is_calibrated(self) -> bool:
        return self.calibration is not None

    @property
    def threshold(self) -> float:
        """The Bayes threshold: trials with this natural-log LLR or more are accepted."""
        return bayes_threshold(self.p_target)

    @property
    def speakers(self) -> frozenset[str]:
        """Names of the speakers from whom back-end and calibration learned."""
        return frozenset((*self.basis.get("speakers", ()), *self.basis.get("fitted_speakers", ())))

    @property
    def needs_durations(self) -> bool:
        """Whether LLRs depend on the seconds of speech; not where the calibration data stated none."""
        return bool(self.basis.get("durations_known", True))

    @property
    def uses_magnitude(self) -> bool:
        """Whether LLRs depend on the lengths of the embeddings, as some networks' tell how clear a voice is."""
        return self.calibration is not None and self.calibration.quality_names_[len(QUALITY_NAMES) :] == MAGNITUDE_NAMES

    def score(self, embeddings: ArrayLike, trials: Trials) -> NDArray[np.float32]:
        """Return scores [m] of trials between rows of embeddings [n, D].

        Raises ShapeError for shapes that do not fit.
        """
        return self.backend.score(embeddings, trials)

    def llrs(
        self,
        scores: ArrayLike,
        enroll_s: ArrayLike,
        test_s: ArrayLike,
        enroll_condition: NDArray[np.float32] | None = None,
        test_condition: NDArray[np.float32] | None = None,
        *,
        enroll_magnitude: ArrayLike | None = None,
        test_magnitude: ArrayLike | None = None,
    ) -> NDArray[np.float64]:
        """Return natural-log LLRs [m] of scores [m].

        Parameters
        ----------
        scores
            [m] of the back-end.
        enroll_s, test_s
            Durations in seconds [m] of both sides.
        enroll_condition, test_condition
            The measures [m, 6] of both sides (`audio.condition.CONDITION_NAMES`); NaN, or None for all, where unknown.
        enroll_magnitude, test_magnitude
            The log lengths [m] of both sides' embeddings as the network gives them (`magnitudes_of`), which count where
            `uses_magnitude`, and are then required; NaN where unknown, which counts as usual.

        Raises
        ------
        CheckpointError
            The system is not calibrated.
        ShapeError
            Lengths that differ, scores that are not finite, durations that are not above 0; magnitudes not given where
            they are required.
        """
        if self.calibration is None:
            raise CheckpointError("the system is not calibrated: `xvectors calibrate DIR` learns it")
        seen = self.calibration.quality_low_[:2], self.calibration.quality_high_[:2]
        quality = duration_quality(enroll_s, test_s, seen)
        if self.uses_magnitude:
            if enroll_magnitude is None or test_magnitude is None:
                raise ShapeError(
                    "the LLRs of this system depend on the lengths of the embeddings: give the magnitudes of both "
                    "sides, or use `trial_llrs`"
                )
            usual = self.calibration.quality_mean_[len(QUALITY_NAMES) :]
            quality = np.hstack([quality, _magnitude_quality(enroll_magnitude, test_magnitude, usual)])
        llrs = self.calibration.transform(scores, quality)
        if self.condition is not None and (enroll_condition is not None or test_condition is not None):
            unknown = np.broadcast_to(np.float32(np.nan), (len(llrs), len(CONDITION_NAMES)))
            llrs = self.condition.transform(
                llrs,
                unknown if enroll_condition is None else self.condition.steady(enroll_condition, enroll_s),
                unknown if test_condition is None else self.condition.steady(test_condition, test_s),
            )
        return llrs if self.bounds is None else np.clip(llrs, *self.bounds)

    def trial_llrs(
        self,
        scores: ArrayLike,
        trials: Trials,
        embeddings: NDArray[np.float32],
        duration_s: NDArray[np.float64],
        condition: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float64]:
        """Return natural-log LLRs [m] of the scores of trials between n recordings.

        Parameters
        ----------
        scores
            [m], as `score` gives them.
        trials
            Trials between rows of `embeddings`.
        embeddings, duration_s, condition
            [n, D], seconds of speech [n], and the measures [n, 6] or None: see `llrs`.
        """
        magnitude = magnitudes_of(embeddings) if self.uses_magnitude else None
        aware = None if self.condition is None else condition
        values, found = np.asarray(scores), np.empty(len(trials))
        if len(values) != len(trials):
            raise ShapeError(f"{len(values)} scores of {len(trials)} trials")
        for start in range(0, len(trials), BLOCK):  # what is computed for a block stays in the cache
            part = slice(start, start + BLOCK)
            enroll, test = trials.enroll[part], trials.test[part]
            found[part] = self.llrs(
                values[part],
                duration_s[enroll],
                duration_s[test],
                None if aware is None else aware[enroll],
                None if aware is None else aware[test],
                enroll_magnitude=None if magnitude is None else magnitude[enroll],
                test_magnitude=None if magnitude is None else magnitude[test],
            )
        return found

    def table(self) -> dict[str, Any]:
        """Return the content of calibration.toml without the fingerprint."""
        if self.calibration is None and self.name != IMPORTED:
            raise ConfigError("there is no calibration to write: learn one first")
        return {
            "backend": {"name": self.name, **self.backend_table},
            **({} if self.calibration is None else {"calibration": self.calibration.to_dict()}),
            **({} if self.condition is None else {"condition": self.condition.to_dict()}),
            **(
                {} if self.bounds is None else {"bounds": {"least_llr": self.bounds[0], "greatest_llr": self.bounds[1]}}
            ),
            "decision": {"p_target": self.p_target},
            "basis": dict(self.basis),
            "figures": dict(self.figures),
        }


QUALITY_NAMES = ("log_shorter_s", "log_longer_s", "log_shorter_s_squared", "log_longer_s_squared", "logs_product")
MAGNITUDE_NAMES = ("smaller_log_magnitude", "larger_log_magnitude")
"""Quality measures of calibrations that use the lengths of embeddings, after those of duration."""


def duration_quality(
    enroll_s: ArrayLike, test_s: ArrayLike, bounds: tuple[ArrayLike, ArrayLike] | None = None
) -> NDArray[np.float64]:
    """Return quality measures [m, 5] of trials: log seconds of the shorter and the longer side, squares and product.

    Without the squares and the product, crops of half a second would distort the LLRs of whole recordings. `bounds` are
    the least and the greatest logs, [2] each, shorter side first, to which values are clipped.
    """
    logs = pair_quality(log_duration(enroll_s), log_duration(test_s))
    if bounds is not None:
        logs = np.clip(logs, *bounds)
    return np.concatenate([logs, logs**2, logs[:, :1] * logs[:, 1:]], axis=1)


def magnitudes_of(embeddings: ArrayLike) -> NDArray[np.float64]:
    """Return the natural log [n] of the lengths of embeddings [n, D]; NaN for one of length 0."""
    lengths = np.linalg.norm(np.asarray(embeddings, dtype=np.float64), axis=1)
    return np.log(np.where(lengths > 0, lengths, np.nan))


def _magnitude_quality(enroll: ArrayLike, test: ArrayLike, usual: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return quality measures [m, 2] of log magnitudes [m], `usual` [2] where one side's is unknown."""
    left, right = (np.asarray(side, dtype=np.float64) for side in (enroll, test))
    quality = np.stack([np.minimum(left, right), np.maximum(left, right)], axis=1)
    return np.where(np.isfinite(quality), quality, usual)


def calibration_digest(verifier: Verifier) -> str:
    """Return the SHA-256, in hex, of a back-end's record and calibration; empty for a system that has neither."""
    if not verifier.is_calibrated and verifier.name != IMPORTED:
        return ""
    return hashlib.sha256(json.dumps(verifier.table(), sort_keys=True).encode()).hexdigest()


def cosine_verifier() -> Verifier:
    """Return the verifier of a system without calibration: the cosine of the embeddings."""
    return Verifier(backend=make_backend("cosine"), name="cosine")


def save_verifier(verifier: Verifier, *, backend: Path, calibration: Path, fingerprint: str) -> None:
    """Write both files atomically, calibration.toml last, so that it implies the other.

    The `fingerprint` binds them to the system. Raises StorageError if a file cannot be written.
    """
    table = {"format_version": FORMAT_VERSION, "system_sha256": fingerprint, **verifier.table()}
    remove_verifier(backend=backend, calibration=calibration)
    save_backend(backend, verifier.backend)
    write_text(calibration, to_toml(table))


def remove_verifier(*, backend: Path, calibration: Path) -> None:
    """Remove both files, calibration.toml first, without which backend.npz is ignored."""
    for path in (calibration, backend):
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"{path}: cannot be removed: {error.strerror or error}") from error


def load_verifier(*, backend: Path, calibration: Path, fingerprint: str) -> Verifier:
    """Load the verifier that `save_verifier` wrote; plain cosine without calibration.toml.

    The back-end of an imported model has a calibration.toml from the start, which lacks the table [calibration] until
    the system is calibrated.

    Raises
    ------
    CheckpointError
        A damaged file, one from another version, or a calibration of another system.
    """
    if not calibration.is_file():
        return cosine_verifier()
    try:
        table = parse_toml(calibration.read_text(encoding="utf-8"), str(calibration))
    except (OSError, UnicodeDecodeError, ConfigError) as error:
        raise CheckpointError(f"{calibration} cannot be read: {error}") from error
    version = table.get("format_version")
    if version == 1:
        raise CheckpointError(
            f"{calibration} was written by an earlier xvectors; `xvectors upgrade {calibration.parent}` brings it "
            "up to date"
        )
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{calibration}: format version {version!r} is not {FORMAT_VERSION}; calibrate the system again"
        )
    if table.get("system_sha256") != fingerprint:
        raise CheckpointError(
            f"{calibration} was learned with other features, another network or other weights than the system has now: "
            "put back what was changed, or calibrate again with `xvectors calibrate`"
        )
    parts: dict[str, Mapping[str, Any]] = {}
    of_backend = table.get("backend")
    is_imported = isinstance(of_backend, Mapping) and of_backend.get("name") == IMPORTED and "calibration" not in table
    for key in ("backend", *(() if is_imported else ("calibration",)), "decision", "basis", "figures"):
        part = table.get(key)
        if not isinstance(part, Mapping):
            raise CheckpointError(f"{calibration} is damaged: the table [{key}] is missing; calibrate the system again")
        parts[key] = part
    p_target, name = parts["decision"].get("p_target"), parts["backend"].get("name")
    if not isinstance(p_target, float) or not 0 < p_target < 1 or not isinstance(name, str):
        raise CheckpointError(
            f"{calibration}: decision.p_target must be a number above 0 and below 1, backend.name a name; "
            f"they are {p_target!r} and {name!r}"
        )
    fitted = None if is_imported else AffineCalibration.from_dict(parts["calibration"])
    if fitted is not None and fitted.quality_names_ not in (QUALITY_NAMES, (*QUALITY_NAMES, *MAGNITUDE_NAMES)):
        raise CheckpointError(
            f"{calibration}: the quality measures {', '.join(fitted.quality_names_)} where there are "
            f"{', '.join(QUALITY_NAMES)}; calibrate the system again"
        )
    return Verifier(
        backend=load_backend(backend),
        name=name,
        calibration=fitted,
        condition=condition_from(table, str(calibration)),
        bounds=bounds_from(table, str(calibration)),
        backend_table={key: value for key, value in parts["backend"].items() if key != "name"},
        basis=parts["basis"],
        figures=parts["figures"],
        p_target=p_target,
    )


def condition_from(table: Mapping[str, Any], path: str) -> ConditionCalibration | None:
    """Restore the calibration for conditions from the result of `Verifier.table`; None if it has none.

    Raises CheckpointError, which names `path`, for a damaged table.
    """
    if "condition" not in table:
        return None
    if not isinstance(table["condition"], Mapping):
        raise CheckpointError(f"{path} is damaged: [condition] is no table; calibrate the system again")
    fitted = ConditionCalibration.from_dict(table["condition"])
    if fitted.names_ != CONDITION_NAMES:
        raise CheckpointError(
            f"{path}: the measures {', '.join(fitted.names_)} where there are {', '.join(CONDITION_NAMES)}; "
            "calibrate the system again"
        )
    return fitted


def bounds_from(table: Mapping[str, Any], path: str) -> tuple[float, float] | None:
    """Restore the bounds of LLRs from the result of `Verifier.table`; None if it has none.

    Raises CheckpointError, which names `path`, for damaged ones.
    """
    if "bounds" not in table:
        return None
    try:
        low, high = (float(table["bounds"][key]) for key in ("least_llr", "greatest_llr"))
    except (TypeError, KeyError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged: [bounds] needs least_llr and greatest_llr as numbers") from error
    if not (-np.inf < low < 0 < high < np.inf):
        raise CheckpointError(f"{path} is damaged: the bounds of LLRs {low} and {high} must be below and above 0")
    return low, high


OF_EMBEDDINGS = "of embeddings, without a network"
"""Takes the place of a system's fingerprint where a back-end was learned from embeddings alone."""


def is_back_end_alone(folder: VerifierFiles) -> bool:
    """Whether a directory holds a back-end that was learned from embeddings, and no system."""
    return folder.calibration.is_file() and not folder.description.is_file()


class VerifierFiles(FingerprintFiles, Protocol):
    """The files of a system directory from which a verifier is read."""

    @property
    def backend(self) -> Path: ...

    @property
    def calibration(self) -> Path: ...


def verifier_of(folder: VerifierFiles) -> Verifier:
    """Load the verifier of a system directory, or of a directory with a back-end alone (see `is_back_end_alone`).

    Errors are those of `load_verifier`.
    """
    if is_back_end_alone(folder):
        return load_verifier(backend=folder.backend, calibration=folder.calibration, fingerprint=OF_EMBEDDINGS)
    return load_verifier(backend=folder.backend, calibration=folder.calibration, fingerprint=fingerprint_of(folder))
