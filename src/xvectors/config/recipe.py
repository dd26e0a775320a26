"""Read recipes by name or from TOML files, apply `key=value` overrides, and write them back to tables."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, get_type_hints

from xvectors.config.extensions import AUGMENTATIONS, LOSSES
from xvectors.config.schema import BUILTIN_LOSSES, MAX_HZ, MAX_MELS, LossConfig, ModelConfig, Recipe
from xvectors.config.tables import flatten, from_mapping, list_item, parse_list, parse_toml, parse_value
from xvectors.errors import ConfigError
from xvectors.text import nearest

DEFAULT_RECIPE = "resnet"
FINE_TUNING_RECIPE = "finetune"

LOSS_SETTINGS = tuple(f.name for f in dataclasses.fields(LossConfig) if f.name != "settings")
MARGIN_SETTINGS = tuple(key for key in LOSS_SETTINGS if key not in ("name", "label_smoothing"))
"""Keys of `loss` that only the margin losses use."""


def recipe_names() -> list[str]:
    """Return the names of the recipes that come with the package."""
    folder = resources.files("xvectors.config") / "recipes"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load_recipe(name: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """Load a recipe by name or from a TOML file.

    Parameters
    ----------
    name
        The name of a recipe, or a path. A file with `base = "resnet"`, or the path of another file relative to its own
        folder, changes that recipe: its tables override those of the base key by key.
    overrides
        Settings such as `training.epochs=20`. The value is TOML, or a bare word; values of a list may be separated by
        commas alone, as in `augment.codecs=gsm,mp3`.

    Raises
    ------
    ConfigError
        A recipe, key or value is unknown or impossible, or the bases form a circle.
    """
    table, source = _read_with_bases(name, ())
    # network and loss first, because their names discard settings of the recipe's own network and loss
    names = ("model.name=", "loss.name=")
    for override in sorted(overrides, key=lambda text: not text.replace(" ", "").startswith(names)):
        _apply_override(table, override)
    recipe = recipe_from_mapping(table, source)
    _check_names(recipe, source)
    _check_softmax(recipe, source)
    return recipe


def _read_with_bases(name: str | Path, above: tuple[Path, ...]) -> tuple[dict[str, Any], str]:
    """Return a recipe's table, merged with its base, and its name in errors; `above` are the files that led here."""
    if str(name) in recipe_names():
        text = (resources.files("xvectors.config") / "recipes" / f"{name}.toml").read_text(encoding="utf-8")
        source = f"recipe {name}"
    elif Path(name).is_file():
        try:
            text, source = Path(name).read_text(encoding="utf-8"), str(name)
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{name}: cannot be read as a TOML recipe: {error}") from error
    else:
        asked = f"{above[-1]}: base: " if above else ""
        raise ConfigError(
            f"{asked}unknown recipe {str(name)!r}{nearest(str(name), recipe_names())}; or give a TOML file"
        )
    table = parse_toml(text, source)
    table.setdefault("name", Path(name).stem)
    if "base" not in table:
        return table, source
    base = table.pop("base")
    if not isinstance(base, str):
        raise ConfigError(f"{source}: base must be the name of a recipe or a file, not {base!r}")
    path = Path(name).resolve()
    files = (*above, path)
    below = base if base in recipe_names() else path.parent / base
    if isinstance(below, Path) and below.resolve() in files:
        circle = " -> ".join(each.name for each in (*files[files.index(below.resolve()) :], below))
        raise ConfigError(f"{source}: base = {base!r} leads in a circle: {circle}; remove one of these bases")
    if isinstance(below, Path) and not os.path.isfile(below):
        raise ConfigError(
            f"{source}: base = {base!r} is not a recipe{nearest(base, recipe_names())}, and no file beside {path.name}"
        )
    under, base_source = _read_with_bases(below, files)
    recipe_from_mapping(under, base_source)  # so that errors in the base name the base
    under["description"] = f"based on {base}"
    return _merged(under, table), source


def _merged(under: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Override keys of `under` by those of `over`; another network or loss discards the settings of the base's own."""
    _forget_settings(under, over.get("model"), over.get("loss"))
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(under.get(key), dict):
            under[key] |= value
        else:
            under[key] = value
    return under


def override_recipe(recipe: Recipe, overrides: Iterable[str]) -> Recipe:
    """Apply overrides such as `training.epochs=20` to a recipe."""
    table = recipe_to_mapping(recipe)
    for override in overrides:
        _apply_override(table, override)
    return recipe_from_mapping(table, f"recipe {recipe.name}")


def recipe_from_mapping(table: Mapping[str, Any], source: str) -> Recipe:
    """Build and check a recipe from plain tables, such as `recipe_to_mapping` returns."""
    table = dict(table)
    model = table.pop("model", {})
    if not isinstance(model, Mapping):
        raise ConfigError(f"{source}: model must be a table with a name and the backbone's settings")
    settings = dict(model)
    name = settings.pop("name", "xvector")
    if not isinstance(name, str):
        raise ConfigError(f"{source}: model.name must be a string, not {name!r}")
    _check_settings(settings, "model", source)
    loss = table.get("loss", {})
    loss_settings: dict[str, Any] = {}
    if isinstance(loss, Mapping) and loss.get("name", BUILTIN_LOSSES[0]) not in BUILTIN_LOSSES:
        loss_settings = {key: value for key, value in loss.items() if key not in LOSS_SETTINGS}
        table["loss"] = {key: value for key, value in loss.items() if key in LOSS_SETTINGS}
        _check_settings(loss_settings, "loss", source)
    elif isinstance(loss, Mapping) and "settings" in loss:
        raise ConfigError(f"{source}: unknown key 'loss.settings'")
    recipe = from_mapping(Recipe, table, source)
    recipe = dataclasses.replace(
        recipe,
        model=ModelConfig(name=name, settings=settings),
        loss=dataclasses.replace(recipe.loss, settings=loss_settings),
    )
    _check_values(recipe, source)
    return recipe


def recipe_to_mapping(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe as plain tables for TOML."""
    table = dataclasses.asdict(recipe)
    table["model"] = {"name": recipe.model.name, **recipe.model.settings}
    del table["loss"]["settings"]
    table["loss"] |= recipe.loss.settings
    return table


def differences(old: Recipe, new: Recipe) -> list[str]:
    """List the keys in which two recipes differ, as `key: old -> new`, without names and descriptions."""
    left, right = flatten(recipe_to_mapping(old)), flatten(recipe_to_mapping(new))
    keys = sorted((left.keys() | right.keys()) - {"name", "description"})
    return [f"{key}: {left.get(key)!r} -> {right.get(key)!r}" for key in keys if left.get(key) != right.get(key)]


def _check_settings(settings: Mapping[str, Any], section: str, source: str) -> None:
    for key, value in settings.items():
        numbers = value if isinstance(value, list) else ()
        if not (isinstance(value, bool | int | float | str) or (numbers and all(type(n) is int for n in numbers))):
            raise ConfigError(
                f"{source}: {section}.{key} must be a number, true, false, a string or a list of whole numbers, "
                f"not {value!r}"
            )


def _check_names(recipe: Recipe, source: str) -> None:
    """Check that losses and augmentations can be found, which only training needs."""
    loss = recipe.loss.name
    if loss not in BUILTIN_LOSSES and not LOSSES.knows(loss):
        known = nearest(loss, [*BUILTIN_LOSSES, *LOSSES.names()])
        raise ConfigError(f"{source}: loss.name = {loss!r} is not known{known}; or give your own as module:Name")
    for name in recipe.augment.custom:
        if not AUGMENTATIONS.knows(name):
            raise ConfigError(
                f"{source}: augment.custom: {name!r} is not known{nearest(name, AUGMENTATIONS.names())}; give "
                "module:Name, or install the package that offers it"
            )


def _check_values(recipe: Recipe, source: str) -> None:
    data, loss, training = recipe.data, recipe.loss, recipe.training
    is_cosine = loss.name == "am_softmax"  # the margin of aam_softmax is an angle
    margins = "at least 0 and below 1 with am_softmax" if is_cosine else "between 0 and pi/2"

    def fits_margin(margin: float) -> bool:
        if loss.name not in BUILTIN_LOSSES:
            return True  # the loss itself decides
        return 0 <= margin < 1 if is_cosine else 0 <= margin <= math.pi / 2

    share, part = "above 0 and at most 1", "at least 0 and below 1"
    rules = [
        ("features.sample_rate_hz", 1 <= recipe.features.sample_rate_hz <= MAX_HZ, f"between 1 and {MAX_HZ}"),
        ("features.num_mels", 1 <= recipe.features.num_mels <= MAX_MELS, f"between 1 and {MAX_MELS}"),
        (
            "data.train_test_prop",
            data.train_test_prop == -1 or 0 < data.train_test_prop <= 1,
            f"{share}, or -1 (choose)",
        ),
        ("data.train_val_prop", 0 < data.train_val_prop <= 1, share),
        ("data.held_out_prop", data.held_out_prop == -1 or 0 <= data.held_out_prop < 1, f"{part}, or -1 (choose)"),
        ("data.utterances_per_speaker", data.utterances_per_speaker >= 2, "at least 2"),
        ("data.large_margin_chunk_s", data.large_margin_chunk_s > 0, "above 0"),
        ("data.chunk_min_s", data.chunk_min_s > 0, "above 0"),
        ("data.chunk_max_s", data.chunk_max_s >= data.chunk_min_s, "at least data.chunk_min_s"),
        ("data.validation_chunk_s", data.validation_chunk_s > 0, "above 0"),
        ("data.min_duration_s", data.min_duration_s >= 0, "0 or more"),
        ("data.max_rejected", 0 <= data.max_rejected <= 1, "between 0 and 1"),
        ("data.channel", data.channel >= -1, "-1 (mix) or a channel's number from 0"),
        ("loss.label_smoothing", 0 <= loss.label_smoothing < 1, part),
        ("loss.margin", fits_margin(loss.margin), margins),
        ("loss.large_margin", fits_margin(loss.large_margin), margins),
        ("loss.scale", loss.scale > 0, "above 0"),
        ("loss.margin_start", 0 <= loss.margin_start <= 1, "between 0 and 1"),
        ("loss.margin_end", loss.margin_start <= loss.margin_end <= 1, "between loss.margin_start and 1"),
        ("loss.sub_centers", loss.sub_centers >= 1, "at least 1"),
        ("training.seed", training.seed >= 0, "0 or more"),
        ("training.epochs", training.epochs >= 1, "at least 1"),
        ("training.minutes", 0 <= training.minutes < math.inf, "0 (go by epochs) or more"),
        ("training.head_only_share", 0 <= training.head_only_share < 1, part),
        ("training.backbone_rate", 0 <= training.backbone_rate < math.inf, "0 (frozen) or more"),
        ("training.average_width", 0 <= training.average_width <= 0.28, "between 0 (none) and 0.28"),
        ("training.large_margin_share", 0 <= training.large_margin_share < 1, part),
        ("training.momentum", 0 <= training.momentum < 1, part),
        ("training.final_share", 0 < training.final_share <= 1, share),
        ("training.batch_size", training.batch_size >= 2, "at least 2"),
        ("training.learning_rate", 0 < training.learning_rate < math.inf, "above 0"),
        ("training.weight_decay", training.weight_decay >= 0, "0 or more"),
        ("training.warm_up", 0 <= training.warm_up < 1, part),
        ("training.max_gradient_norm", training.max_gradient_norm >= 0, "0 or more"),
        ("training.workers", training.workers >= -1, "-1 (choose) or a number of processes"),
        ("training.decoded_mb", training.decoded_mb >= 0, "0 (keep none) or more"),
        ("training.checkpoint_interval_s", training.checkpoint_interval_s >= 0, "0 or more"),
    ]
    flat = flatten(recipe_to_mapping(recipe))
    for key, holds, wanted in rules:
        if not holds:
            raise ConfigError(f"{source}: {key} = {flat[key]!r} must be {wanted}")


def _check_softmax(recipe: Recipe, source: str) -> None:
    """Refuse settings that the plain softmax would not use."""
    if recipe.loss.name == "softmax":
        for key in MARGIN_SETTINGS:
            if getattr(recipe.loss, key) != getattr(LossConfig(), key):
                raise ConfigError(
                    f"{source}: loss.{key} is a setting of the margin losses, not of loss.name = 'softmax'; leave it "
                    "out, or set loss.name to am_softmax or aam_softmax"
                )


def _forget_settings(table: dict[str, Any], model: object, loss: object) -> None:
    """Discard the settings of a network or loss that another one replaces."""
    old_name = table.get("model", {}).get("name")
    if isinstance(model, Mapping) and model.get("name", old_name) != old_name:
        table["model"] = {}
    if isinstance(loss, Mapping) and "name" in loss:
        old, kept = table.get("loss", {}), LOSS_SETTINGS
        if loss["name"] == "softmax":
            kept = tuple(key for key in LOSS_SETTINGS if key not in MARGIN_SETTINGS)
        elif loss["name"] not in BUILTIN_LOSSES:
            kept = tuple(old) if loss["name"] == old.get("name") else ()
        table["loss"] = {key: value for key, value in old.items() if key in kept}


def _apply_override(table: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    parts = key.strip().split(".")
    if not separator or not all(parts):
        raise ConfigError(f"override {override!r} must have the form section.key=value, as in training.epochs=20")
    value = parse_value(text.strip(), f"override {key.strip()}")
    if _is_list(parts) and not isinstance(value, list):
        value = parse_list(value if isinstance(value, str) else text, f"override {key.strip()}")
    if parts in (["model", "name"], ["loss", "name"]):
        _forget_settings(table, *({"name": value} if parts[0] == section else None for section in ("model", "loss")))
    for part in parts[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise ConfigError(f"override {override!r}: {part!r} is a value, not a section")
    table[parts[-1]] = value


def _is_list(parts: list[str]) -> bool:
    """Whether a key of the schema, such as `augment.speeds`, holds a list."""
    hint: Any = Recipe
    for part in parts:
        hint = get_type_hints(hint).get(part) if dataclasses.is_dataclass(hint) else None
    return list_item(hint) is not None
