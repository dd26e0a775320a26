"""What the keys of a recipe are for. In: a Recipe. Out: every key with its value, type, default and explanation."""

from __future__ import annotations

import dataclasses
import textwrap
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from xvectors.config.recipe import recipe_to_mapping
from xvectors.config.schema import Recipe
from xvectors.config.tables import EXPLANATION, to_toml

KINDS = {bool: "true or false", int: "whole number", float: "number", str: "text"}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One key of a recipe, such as `training.epochs`."""

    key: str
    value: Any
    default: Any
    kind: str
    explanation: str
    is_given: bool = True
    """False for a network's setting that the recipe does not mention."""


def settings_of(recipe: Recipe, model_settings: Mapping[str, Setting] | None = None) -> list[Setting]:
    """Every key of `recipe` in the order of the schema.

    `model_settings` are those of its network, by name (`xvectors.models.explain_settings`).
    """
    table = recipe_to_mapping(recipe)
    found = [*_explained(Recipe, table, ("name",))]
    for section in dataclasses.fields(Recipe):
        kind = typing.get_type_hints(Recipe)[section.name]
        if dataclasses.is_dataclass(kind):
            found += _explained(typing.cast(type[Any], kind), table[section.name], ("settings",), f"{section.name}.")
            if section.name == "model":
                given = recipe.model.settings
                for name, each in (model_settings or {}).items():
                    value = given.get(name, each.default)
                    found.append(dataclasses.replace(each, value=value, is_given=name in given))
    return found


def recipe_lines(settings: list[Setting]) -> Iterator[str]:
    """A recipe as a TOML file in which a comment explains each key: `--recipe` takes it again."""
    section = ""
    for each in settings:
        prefix, _, key = each.key.rpartition(".")
        if prefix != section:
            section = prefix
            yield from ("", f"[{section}]")
        default = "" if each.value == each.default else f"; default {_toml(each.default)}"
        yield from _comment(f"{each.explanation} [{each.kind}{default}]")
        # a setting that the recipe leaves to the network stays the network's to choose
        yield f"{'' if each.is_given else '# '}{key} = {_toml(each.value)}"


def _explained(
    cls: type[Any], table: Mapping[str, Any], without: tuple[str, ...], prefix: str = ""
) -> Iterator[Setting]:
    hints = typing.get_type_hints(cls)
    for each in dataclasses.fields(cls):
        if each.name not in without and not dataclasses.is_dataclass(hints[each.name]):
            yield Setting(
                key=f"{prefix}{each.name}",
                value=table[each.name],
                default=each.default,
                kind=kind_in_words(hints[each.name]),
                explanation=each.metadata[EXPLANATION],
            )


def kind_in_words(hint: Any) -> str:
    """A type as a user thinks of it: `whole number`, or the words to choose from."""
    if typing.get_origin(hint) is Literal:
        return ", ".join(map(str, typing.get_args(hint)))
    return KINDS.get(hint, "list of whole numbers")


def _toml(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return to_toml({"x": value}).partition("=")[2].strip()


def _comment(text: str, width: int = 100) -> Iterator[str]:
    yield from textwrap.wrap(text, width, initial_indent="# ", subsequent_indent="#   ")
