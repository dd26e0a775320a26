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
from xvectors.config.schema import BUILTIN_LOSSES, SETTINGS_OF_LOSSES, LossConfig, ModelConfig, Recipe
from xvectors.config.tables import Range, flatten, from_mapping, list_item, parse_list, parse_toml, parse_value
from xvectors.errors import ConfigError
from xvectors.text import nearest

DEFAULT_RECIPE = "resnet"
FINE_TUNING_RECIPE = "finetune"
DISTILLATION_RECIPE = "distill"

LOSS_SETTINGS = tuple(f.name for f in dataclasses.fields(LossConfig) if f.name != "settings")


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
    _check_loss(recipe, source)
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
        kinds = {type(each) for each in value} if isinstance(value, list) else set()
        if not isinstance(value, bool | int | float | str) and kinds not in ({int}, {str}):
            raise ConfigError(
                f"{source}: {section}.{key} must be a number, true, false, a string or a list of whole numbers or of "
                f"strings, not {value!r}"
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
    """Check the values that depend on others."""
    data, loss, augment = recipe.data, recipe.loss, recipe.augment
    is_cosine = loss.name == "am_softmax" or (loss.name == "sphereface2" and loss.margin_type == "cosine")
    wanted = "[0, 1)" if is_cosine else f"[0, {math.pi / 2}]"
    margins = Range(wanted if loss.name in BUILTIN_LOSSES else "(-inf, inf)")
    distills, teacher = bool(recipe.distillation.teacher), "with distillation.teacher"
    rules = [
        ("augment.speed_prob", not (distills and augment.speed_prob), f"0 {teacher}, whose voices take its place"),
        ("loss.name", not distills or loss.name != "softmax", f"a loss over embeddings {teacher}, such as aam_softmax"),
        ("data.chunk_max_s", data.chunk_max_s >= data.chunk_min_s, "at least data.chunk_min_s"),
        ("loss.margin", loss.margin in margins, f"{margins} with {loss.name}"),
        ("loss.large_margin", loss.large_margin in margins, f"{margins} with {loss.name}"),
        ("loss.margin_end", loss.margin_end >= loss.margin_start, "at least loss.margin_start"),
    ]
    flat = flatten(recipe_to_mapping(recipe))
    for key, holds, words in rules:
        if not holds:
            raise ConfigError(f"{source}: {key} = {flat[key]!r} must be {words}")


def _check_loss(recipe: Recipe, source: str) -> None:
    """Refuse settings that the loss would not use."""
    used = SETTINGS_OF_LOSSES.get(recipe.loss.name, LOSS_SETTINGS)
    for key in LOSS_SETTINGS:
        if key not in ("name", *used) and getattr(recipe.loss, key) != getattr(LossConfig(), key):
            others = " or ".join(name for name, keys in SETTINGS_OF_LOSSES.items() if key in keys)
            raise ConfigError(
                f"{source}: loss.{key} is not a setting of loss.name = {recipe.loss.name!r}; leave it out, or set "
                f"loss.name to {others}"
            )


def _forget_settings(table: dict[str, Any], model: object, loss: object) -> None:
    """Discard the settings of a network or loss that another one replaces."""
    old_name = table.get("model", {}).get("name")
    if isinstance(model, Mapping) and model.get("name", old_name) != old_name:
        table["model"] = {}
    if isinstance(loss, Mapping) and "name" in loss:
        old = table.get("loss", {})
        if loss["name"] in BUILTIN_LOSSES:
            kept = SETTINGS_OF_LOSSES[loss["name"]]
        else:
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
