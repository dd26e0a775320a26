"""Settings of a network, explained by the docstring of its class."""

from __future__ import annotations

import inspect
import re
from typing import get_type_hints

from xvectors.config import Setting, kind_in_words
from xvectors.models.backbone import Backbone

NOT_SETTINGS = ("num_speakers", "input_dim")
"""Arguments of every network that the corpus and the features decide."""


def settings_of_model(cls: type[Backbone]) -> dict[str, Setting]:
    """Return the settings of a network by name, explained by the Parameters section of its class or a base class."""
    explanations: dict[str, str] = {}
    for each in reversed(cls.__mro__):
        explanations |= _parameters(each.__doc__ or "")
    hints = get_type_hints(cls.__init__)
    return {
        name: Setting(
            key=f"model.{name}",
            value=parameter.default,
            default=parameter.default,
            kind=kind_in_words(hints.get(name)),
            explanation=explanations.get(name, ""),
        )
        for name, parameter in inspect.signature(cls).parameters.items()
        if name not in NOT_SETTINGS
    }


def _parameters(docstring: str) -> dict[str, str]:
    """Return the explanations in a numpydoc Parameters section, by parameter."""
    section = re.search(
        r"^Parameters\n-+\n(.*?)(?=\n\S[^\n]*\n-+\n|\n\n\S|\Z)", inspect.cleandoc(docstring), re.S | re.M
    )
    found: dict[str, str] = {}
    for entry in re.finditer(r"^(\S[^\n]*)\n((?:[ \t]+[^\n]*\n?)+)", section[1] if section else "", re.M):
        names, text = entry[1].partition(" : ")[0], " ".join(entry[2].split())
        found |= {name.strip(): text for name in names.split(",")}
    return found
