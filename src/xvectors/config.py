"""Settings as frozen dataclasses. In: TOML (a recipe, a system's file) and `key=value` overrides. Out: a Recipe.

Every key that is not known raises and names the nearest known one; every value is checked against its field's type.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeVar

import tomli_w

from xvectors.errors import ConfigError

Scalar = bool | int | float | str


@dataclass(frozen=True, kw_only=True)
class FeaturesConfig:
    """Log-mel filterbanks; the fields are the arguments of `xvectors.features.Fbank`."""

    sample_rate_hz: int = 16_000
    num_mels: int = 24
    frame_length_ms: float = 25.0
    frame_shift_ms: float = 10.0
    preemphasis: float = 0.97
    remove_dc: bool = True
    window: Literal["povey", "hamming", "hanning", "rectangular"] = "povey"
    snip_edges: bool = True
    low_frequency_hz: float = 20.0
    high_frequency_hz: float = 0.0
    use_power: bool = True
    mean_normalisation: bool = False


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A backbone by its name in `xvectors.models.MODELS`, and that class's own arguments."""

    name: str = "xvector"
    settings: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """How a corpus is divided and cut into chunks."""

    train_test_prop: float = 0.95
    """Share of the speakers that train and validate; the others are kept for testing."""
    train_val_prop: float = 0.9
    """Share of those speakers' utterances that train; the others validate."""
    keep_sessions: bool = False
    """Keep all utterances of one session on one side of train/validation."""
    chunk_min_s: float = 2.0
    chunk_max_s: float = 4.0
    """Training chunks: one length a batch, drawn between these two, cut at random places."""
    validation_chunk_s: float = 5.0
    """Validation chunks: from the middle of each utterance."""
    min_duration_s: float = 0.0
    """Recordings below this are left out; below the network's context they always are."""
    max_rejected: float = 0.5
    """Share of unusable recordings past which a run does not start or go on."""
    scan_contents: bool = True
    """Decode every recording before training, to find silence, NaN, clipping, truncation and duplicates."""
    sampler: Literal["shuffle", "gender_balanced"] = "shuffle"
    channel: int = -1
    """The channel of recordings with several; -1 mixes them down."""


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """The loss over training speakers; the margin losses of `xvectors.losses` act on the embeddings themselves."""

    name: Literal["softmax", "am_softmax", "aam_softmax"] = "softmax"
    label_smoothing: float = 0.0
    margin: float = 0.2
    scale: float = 30.0
    margin_start: float = 0.1
    margin_end: float = 0.5
    """Shares of the run between which the margin grows from 0 to its value."""
    sub_centers: int = 1
    inter_top_k: int = 0
    inter_top_k_margin: float = 0.06


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """The optimiser, its schedule and the length of a run."""

    epochs: int = 10
    batch_size: int = 128
    optimiser: Literal["adam"] = "adam"
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    schedule: Literal["constant", "one_cycle"] = "constant"
    warm_up: float = 0.1
    """Share of the run over which `one_cycle` climbs to the learning rate; it falls along a half cosine after."""
    max_gradient_norm: float = 0.0
    """Clip the gradient's norm to this; 0 does not clip."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the network's matrix products; `auto` is bfloat16 where the device multiplies it natively."""
    best: Literal["val_accuracy", "val_loss"] = "val_accuracy"
    """What decides which epoch's weights are kept."""
    workers: int = -1
    """Processes that read recordings; -1 chooses by device and cores, 0 reads in the training process."""
    checkpoint_interval_s: float = 60.0
    """Most seconds of training between two saved states."""
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that decides how a system comes out of a corpus."""

    name: str
    description: str = ""
    features: FeaturesConfig = field(default_factory=FeaturesConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)


T = TypeVar("T")


def recipe_names() -> list[str]:
    """The recipes that come with the package."""
    folder = resources.files("xvectors") / "recipes"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load_recipe(name: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """A recipe by name, or from a TOML file, with overrides such as `training.epochs=20` applied.

    Raises ConfigError for an unknown recipe, key or value, naming the nearest known one.
    """
    if str(name) in recipe_names():
        text = (resources.files("xvectors") / "recipes" / f"{name}.toml").read_text(encoding="utf-8")
        source = f"recipe {name}"
    elif Path(name).is_file():
        text, source = Path(name).read_text(encoding="utf-8"), str(name)
    else:
        raise ConfigError(f"unknown recipe {str(name)!r}{nearest(str(name), recipe_names())}; or give a TOML file")
    table = parse_toml(text, source)
    table.setdefault("name", Path(name).stem)
    for override in overrides:
        _apply_override(table, override)
    return recipe_from_mapping(table, source)


def recipe_from_mapping(table: Mapping[str, Any], source: str) -> Recipe:
    """The recipe that `recipe_to_mapping` wrote, checked."""
    table = dict(table)
    model = table.pop("model", {})
    if not isinstance(model, Mapping):
        raise ConfigError(f"{source}: model must be a table with a name and the backbone's settings")
    settings = dict(model)
    name = settings.pop("name", "xvector")
    if not isinstance(name, str):
        raise ConfigError(f"{source}: model.name must be a string, not {name!r}")
    for key, value in settings.items():
        if not isinstance(value, bool | int | float | str):
            raise ConfigError(f"{source}: model.{key} must be a number, true, false or a string, not {value!r}")
    recipe = from_mapping(Recipe, table, source)
    recipe = dataclasses.replace(recipe, model=ModelConfig(name=name, settings=settings))
    _check_values(recipe, source)
    return recipe


def recipe_to_mapping(recipe: Recipe) -> dict[str, Any]:
    """Plain tables for TOML."""
    table = dataclasses.asdict(recipe)
    table["model"] = {"name": recipe.model.name, **recipe.model.settings}
    return table


def to_toml(table: Mapping[str, Any]) -> str:
    return tomli_w.dumps(table)


def parse_toml(text: str, source: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{source}: not valid TOML: {error}") from error


def differences(old: Recipe, new: Recipe) -> list[str]:
    """The keys in which two recipes differ, each as `key: old -> new`; names and descriptions do not count."""
    left, right = _flatten(recipe_to_mapping(old)), _flatten(recipe_to_mapping(new))
    keys = sorted((left.keys() | right.keys()) - {"name", "description"})
    return [f"{key}: {left.get(key)!r} -> {right.get(key)!r}" for key in keys if left.get(key) != right.get(key)]


def nearest(name: str, known: Iterable[str]) -> str:
    """` (did you mean ...?)` where a known name is near, the list of known names otherwise."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(known)}"


def from_mapping(cls: type[T], table: Mapping[str, Any], source: str, prefix: str = "") -> T:
    """Build the dataclass `cls` from plain tables; `source` and the key's full name go into every error."""
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in table:
        if key not in fields:
            hint = nearest(f"{prefix}{key}", [f"{prefix}{name}" for name in fields])
            raise ConfigError(f"{source}: unknown key {prefix + key!r}{hint}")
    values = {}
    for key, value in table.items():
        hint = hints[key]
        if dataclasses.is_dataclass(hint):
            if not isinstance(value, Mapping):
                raise ConfigError(f"{source}: {prefix}{key} must be a table, not {value!r}")
            values[key] = from_mapping(typing.cast(type[Any], hint), value, source, f"{prefix}{key}.")
        else:
            values[key] = _checked(value, hint, f"{source}: {prefix}{key}")
    return cls(**values)


def _checked(value: Any, hint: Any, where: str) -> Any:
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        if value not in choices:
            raise ConfigError(f"{where} = {value!r} is not known{nearest(str(value), map(str, choices))}")
        return value
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, bool) != (hint is bool) or not isinstance(value, hint):
        wanted = {bool: "true or false", int: "a whole number", float: "a number", str: "a string"}[hint]
        raise ConfigError(f"{where} must be {wanted}, not {value!r}")
    return value


def _check_values(recipe: Recipe, source: str) -> None:
    data, loss, training = recipe.data, recipe.loss, recipe.training
    rules = [
        ("data.train_test_prop", 0 < data.train_test_prop <= 1, "above 0 and at most 1"),
        ("data.train_val_prop", 0 < data.train_val_prop <= 1, "above 0 and at most 1"),
        ("data.chunk_min_s", data.chunk_min_s > 0, "above 0"),
        ("data.chunk_max_s", data.chunk_max_s >= data.chunk_min_s, "at least data.chunk_min_s"),
        ("data.validation_chunk_s", data.validation_chunk_s > 0, "above 0"),
        ("data.min_duration_s", data.min_duration_s >= 0, "0 or more"),
        ("data.max_rejected", 0 <= data.max_rejected <= 1, "between 0 and 1"),
        ("data.channel", data.channel >= -1, "-1 (mix) or a channel's number from 0"),
        ("loss.label_smoothing", 0 <= loss.label_smoothing < 1, "at least 0 and below 1"),
        ("loss.margin", 0 <= loss.margin <= math.pi / 2, "between 0 and pi/2"),
        ("loss.scale", loss.scale > 0, "above 0"),
        ("loss.margin_start", 0 <= loss.margin_start <= 1, "between 0 and 1"),
        ("loss.margin_end", loss.margin_start <= loss.margin_end <= 1, "between loss.margin_start and 1"),
        ("loss.sub_centers", loss.sub_centers >= 1, "at least 1"),
        ("training.epochs", training.epochs >= 1, "at least 1"),
        ("training.batch_size", training.batch_size >= 2, "at least 2"),
        ("training.learning_rate", training.learning_rate > 0, "above 0"),
        ("training.weight_decay", training.weight_decay >= 0, "0 or more"),
        ("training.warm_up", 0 <= training.warm_up < 1, "at least 0 and below 1"),
        ("training.max_gradient_norm", training.max_gradient_norm >= 0, "0 or more"),
        ("training.workers", training.workers >= -1, "-1 (choose) or a number of processes"),
        ("training.checkpoint_interval_s", training.checkpoint_interval_s >= 0, "0 or more"),
    ]
    flat = _flatten(recipe_to_mapping(recipe))
    for key, holds, wanted in rules:
        if not holds:
            raise ConfigError(f"{source}: {key} = {flat[key]!r} must be {wanted}")


def _apply_override(table: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    parts = key.strip().split(".")
    if not separator or not all(parts):
        raise ConfigError(f"override {override!r} must have the form section.key=value, as in training.epochs=20")
    try:
        value = tomllib.loads(f"value = {text.strip()}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    for part in parts[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise ConfigError(f"override {override!r}: {part!r} is a value, not a section")
    table[parts[-1]] = value


def _flatten(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat
