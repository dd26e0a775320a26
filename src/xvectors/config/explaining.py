"""Recipes with every key explained, as `xvectors recipes NAME` prints them."""

from __future__ import annotations

import dataclasses
import textwrap
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from xvectors.config.recipe import recipe_to_mapping
from xvectors.config.schema import Recipe
from xvectors.config.tables import EXPLANATION, KINDS, LIST_KINDS, RANGE, list_item, to_literal


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One key of a recipe, such as `training.epochs`."""

    key: str
    value: Any
    default: Any
    kind: str
    explanation: str
    is_given: bool = True
    """False for a setting of the network that the recipe does not mention."""


def settings_of(recipe: Recipe, model_settings: Mapping[str, Setting] | None = None) -> list[Setting]:
    """Return every key of a recipe, in the order of the schema.

    `model_settings` holds the settings of its network by name, as `xvectors.models.settings_of_model` returns them.
    """
    table = recipe_to_mapping(recipe)
    found = [*_explained(Recipe, table)]
    for section, kind in typing.get_type_hints(Recipe).items():
        if not dataclasses.is_dataclass(kind):
            continue
        found += _explained(typing.cast(type[Any], kind), table[section], f"{section}.")
        if section == "model":
            given = recipe.model.settings
            for name, each in (model_settings or {}).items():
                found.append(dataclasses.replace(each, value=given.get(name, each.default), is_given=name in given))
    return found


def recipe_lines(settings: list[Setting]) -> Iterator[str]:
    """Write a recipe as a TOML file that `--recipe` reads, with a comment on each key."""
    section = ""
    for each in settings:
        prefix, _, key = each.key.rpartition(".")
        if prefix != section:
            section = prefix
            yield from ("", f"[{section}]")
        default = "" if each.value == each.default else f"; default {to_literal(each.default)}"
        comment = f"{each.explanation} [{each.kind}{default}]"
        yield from textwrap.wrap(comment, 100, initial_indent="# ", subsequent_indent="#   ")
        # a setting that the recipe leaves to the network stays a comment
        yield f"{'' if each.is_given else '# '}{key} = {to_literal(each.value)}"


def kind_in_words(hint: Any) -> str:
    """Describe a type to users: `whole number`, `list of strings`, or the words to choose from."""
    if typing.get_origin(hint) is Literal:
        return ", ".join(map(str, typing.get_args(hint)))
    return KINDS[hint].removeprefix("a ") if hint in KINDS else f"list of {LIST_KINDS[list_item(hint) or int]}"


def _explained(cls: type[Any], table: Mapping[str, Any], prefix: str = "") -> Iterator[Setting]:
    hints = typing.get_type_hints(cls)
    for each in dataclasses.fields(cls):
        if EXPLANATION in each.metadata:
            allowed = each.metadata[RANGE]
            yield Setting(
                key=f"{prefix}{each.name}",
                value=table[each.name],
                default=each.default,
                kind=kind_in_words(hints[each.name]) + (f" {allowed}" if allowed else ""),
                explanation=each.metadata[EXPLANATION],
            )
