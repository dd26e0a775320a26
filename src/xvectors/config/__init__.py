"""Recipes: settings as frozen dataclasses, read from TOML with `key=value` overrides, and written back.

An unknown key is an error that suggests a known one; every value is checked against the type of its field.
"""

from xvectors.config.augmentation import CODECS, AugmentConfig
from xvectors.config.explaining import Setting, kind_in_words, recipe_lines, settings_of
from xvectors.config.extensions import AUGMENTATIONS, BACKBONES, LOSSES, TRUST_VARIABLE, Extensions, origin, trust
from xvectors.config.recipe import (
    DEFAULT_RECIPE,
    DISTILLATION_RECIPE,
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
    MAX_HZ,
    MAX_MELS,
    SETTINGS_OF_LOSSES,
    DataConfig,
    DistillationConfig,
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
    "DISTILLATION_RECIPE",
    "FINE_TUNING_RECIPE",
    "LOSSES",
    "MAX_HZ",
    "MAX_MELS",
    "SETTINGS_OF_LOSSES",
    "TRUST_VARIABLE",
    "AugmentConfig",
    "DataConfig",
    "DistillationConfig",
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
