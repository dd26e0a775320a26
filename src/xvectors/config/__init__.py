"""Settings as frozen dataclasses. In: TOML (a recipe, a system's file) and `key=value` overrides. Out: a Recipe.

Every key that is not known raises and names the nearest known one; every value is checked against its field's type.
"""

from xvectors.config.augmentation import CODECS, AugmentConfig
from xvectors.config.explaining import Setting, kind_in_words, recipe_lines, settings_of
from xvectors.config.extensions import AUGMENTATIONS, BACKBONES, LOSSES, TRUST_VARIABLE, Extensions, origin, trust
from xvectors.config.recipe import (
    DEFAULT_RECIPE,
    FINE_TUNING_RECIPE,
    differences,
    load_recipe,
    override_recipe,
    recipe_from_mapping,
    recipe_names,
    recipe_to_mapping,
)
from xvectors.config.schema import (
    BUILTIN_LOSSES,
    MOST_HZ,
    MOST_MELS,
    DataConfig,
    FeaturesConfig,
    LossConfig,
    ModelConfig,
    Recipe,
    TrainingConfig,
)
from xvectors.config.tables import parse_toml, to_toml

__all__ = [
    "AUGMENTATIONS",
    "BACKBONES",
    "BUILTIN_LOSSES",
    "CODECS",
    "DEFAULT_RECIPE",
    "FINE_TUNING_RECIPE",
    "LOSSES",
    "MOST_HZ",
    "MOST_MELS",
    "TRUST_VARIABLE",
    "AugmentConfig",
    "DataConfig",
    "Extensions",
    "FeaturesConfig",
    "LossConfig",
    "ModelConfig",
    "Recipe",
    "Setting",
    "TrainingConfig",
    "differences",
    "kind_in_words",
    "load_recipe",
    "origin",
    "override_recipe",
    "parse_toml",
    "recipe_from_mapping",
    "recipe_lines",
    "recipe_names",
    "recipe_to_mapping",
    "settings_of",
    "to_toml",
    "trust",
]
