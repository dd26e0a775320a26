"""Reading and writing a system directory, which training writes and every other command reads.

system.toml         recipe, number of speakers, versions, and the code from outside xvectors that it needs
model.safetensors   weights of the kept epoch, and the embedding map
speakers.csv        class index -> speaker
corpus.csv          the recordings of the corpus, each with its split
backend.npz         the back-end, which scores two embeddings
calibration.toml    the calibration of scores to log-likelihood ratios, and the data that it was fitted on
history.csv         one row for each epoch
left_out.csv        recordings that the scan left out, with reasons
state/              the checkpoint that an exact resume needs
tensorboard/        event files of `xvectors train --log tensorboard`
report/             evaluation, embeddings and plots
"""

from __future__ import annotations

import csv
import io
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from xvectors.config import (
    AUGMENTATIONS,
    BACKBONES,
    BUILTIN_LOSSES,
    LOSSES,
    Extensions,
    Recipe,
    origin,
    parse_toml,
    recipe_from_mapping,
    recipe_to_mapping,
    to_toml,
)
from xvectors.errors import CheckpointError, ConfigError, ShapeError
from xvectors.features import Fbank
from xvectors.files import atomic_write, why_no_file, write_text
from xvectors.files.tables import restored, write_table
from xvectors.models import MODELS, Backbone, EmbeddingMap, build_model
from xvectors.system.folder import SystemFolder
from xvectors.text import composed, count, first_few, short_repr
from xvectors.verification.fingerprint import SYSTEM_FORMAT_VERSION, check_format, embedding_settings

ONNX = "onnx"
"""Value of `model.name` in a system that runs an .onnx file of another toolkit."""
MAP_PREFIX = "embedding_map."
"""Prefix of the embedding map's tensors in model.safetensors."""


@short_repr()
@dataclass(frozen=True, kw_only=True)
class Description:
    """The contents of system.toml and speakers.csv."""

    recipe: Recipe
    speakers: tuple[str, ...]
    versions: Mapping[str, str]
    origin: Mapping[str, Any] | None = None
    """Where an imported system comes from; None for a system that was trained by us."""


def make_model(recipe: Recipe, num_speakers: int) -> Backbone:
    """Build the recipe's network, with weights drawn from torch's default generator.

    Its classes are the speakers in the order of speakers.csv, followed by the same speakers at each other speed of the
    augmentation. An imported system has no speakers; its network keeps one class, whose weights are zero.
    """
    if recipe.model.name == ONNX:
        raise ConfigError(
            "a system that was imported from an .onnx file holds no network that can be trained or exported; import "
            "the model's checkpoint instead, or use the file as it is"
        )
    for key in ("num_speakers", "input_dim"):
        if key in recipe.model.settings:
            raise ConfigError(f"model.{key} follows from the corpus and the features; leave it out")
    return build_model(
        recipe.model.name,
        num_speakers=max(num_classes(recipe, num_speakers), 1),
        input_dim=recipe.features.dimension,
        **recipe.model.settings,
    )


def check_size(folder: SystemFolder, description: Description) -> None:
    """Check that the shapes in model.safetensors are those that system.toml asks for, before allocating memory.

    Networks from outside xvectors are not checked, since some cannot be built on the meta device.

    Raises
    ------
    CheckpointError
        Where shapes differ or the weights cannot be read.
    """
    if description.recipe.model.name not in MODELS or why_no_file(folder.weights):
        return
    with torch.device("meta"):
        model = make_model(description.recipe, len(description.speakers))
    own = {key: list(value.shape) for key, value in model.state_dict().items()}
    try:
        with safetensors.safe_open(folder.weights, "pt") as file:
            shapes = {key: file.get_slice(key).get_shape() for key in own.keys() & set(file.keys())}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{folder.weights} is damaged, or not a safetensors file: {error}") from error
    differing = [f"{key} is {shapes[key]} where the model has {own[key]}" for key in shapes if shapes[key] != own[key]]
    if differing:
        some = first_few(sorted(differing), separator="; ")
        raise CheckpointError(f"{folder.weights} does not fit this model: {some}")


def num_classes(recipe: Recipe, num_speakers: int) -> int:
    """Return the number of classes: each speaker at each speed, or in each voice, is a class of its own."""
    if recipe.distillation.teacher:
        return num_speakers * (1 + recipe.distillation.voices)
    return num_speakers * (1 + len(recipe.augment.speed_factors))


def make_features(recipe: Recipe) -> Fbank:
    return Fbank(**asdict(recipe.features))


def write_description(
    folder: SystemFolder, recipe: Recipe, speakers: Sequence[str], origin: Mapping[str, Any] | None = None
) -> None:
    """Write speakers.csv, then system.toml, whose presence makes the folder a system; `origin` if it was imported."""
    write_table(folder.speakers, ["index", "speaker"], enumerate(speakers))
    description: dict[str, Any] = {
        "format_version": SYSTEM_FORMAT_VERSION,
        "num_speakers": len(speakers),
        "versions": current_versions(),
        "recipe": recipe_to_mapping(recipe),
    }
    if code := code_from_outside(recipe):
        description["code"] = code
    if origin is not None:
        description["origin"] = dict(origin)
    write_text(folder.description, to_toml(description))


def code_from_outside(recipe: Recipe) -> list[dict[str, str]]:
    """List the recipe's networks, losses and augmentations from outside xvectors, with where each comes from."""
    names: list[tuple[Extensions, str, Mapping[str, Any]]] = [
        (BACKBONES, recipe.model.name, MODELS),
        (LOSSES, recipe.loss.name, dict.fromkeys(BUILTIN_LOSSES)),
    ]
    names += [(AUGMENTATIONS, name, {}) for name in recipe.augment.custom]
    return [
        {"key": kind.key, "name": name, **origin(kind.find(name, builtin))}
        for kind, name, builtin in names
        if name not in builtin and name != ONNX
    ]


def current_versions() -> dict[str, str]:
    """Return the versions of xvectors, torch, numpy and Python, which system.toml records."""
    return {
        "xvectors": metadata.version("xvectors"),
        "torch": torch.__version__,
        "numpy": metadata.version("numpy"),
        "python": platform.python_version(),
    }


def read_description(folder: SystemFolder) -> Description:
    """Read system.toml and speakers.csv.

    Raises
    ------
    CheckpointError
        Where the folder holds no system, or a file is damaged or from another version.
    """
    if not folder.path.is_dir():
        raise CheckpointError(
            f"{folder.path}: no such folder; `xvectors train DATA -o {folder.path}` trains a system there"
        )
    if not folder.description.is_file():
        raise CheckpointError(f"{folder.path} holds no system.toml, so it is not a system directory")
    table = parse_toml(read_text(folder.description), str(folder.description))
    check_format(table, folder.path)
    embedding_settings(table, str(folder.description))
    recipe = recipe_from_mapping(subtable(table, "recipe", folder.description), str(folder.description))
    speakers = read_speakers(folder.speakers)
    if len(speakers) != table.get("num_speakers"):
        raise CheckpointError(
            f"{folder.speakers} names {count(len(speakers), 'speaker')} but {folder.description} counts "
            f"{table.get('num_speakers')!r}; the two belong to different systems"
        )
    return Description(
        recipe=recipe,
        speakers=speakers,
        versions=subtable(table, "versions", folder.description),
        origin=subtable(table, "origin", folder.description) if "origin" in table else None,
    )


def read_speakers(path: Path) -> tuple[str, ...]:
    """Read the speakers' names in the order of their class indices; CheckpointError for a damaged file."""
    text = read_text(path)
    try:
        header, *rows = csv.reader(io.StringIO(text, newline=""), strict=True)
        if header == ["index", "speaker"] and [index for index, _ in rows] == [str(i) for i in range(len(rows))]:
            return tuple(composed(restored(name)) for _, name in rows)
    except (csv.Error, ValueError):  # ValueError: a row without exactly two cells
        pass
    raise CheckpointError(f"{path} is damaged: it must list index,speaker with the indices 0, 1, 2, ...")


def write_weights(
    folder: SystemFolder, weights: Mapping[str, Tensor], epoch: int, embedding_map: EmbeddingMap | None = None
) -> None:
    """Write model.safetensors atomically, with the epoch of the weights (0 before the end of the first)."""
    if embedding_map is not None:
        weights = {**weights, **{f"{MAP_PREFIX}{key}": value for key, value in embedding_map.state_dict().items()}}
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    with atomic_write(folder.weights) as temporary:
        # safetensors' save_file would make the file private to its owner
        temporary.write_bytes(safetensors.torch.save(contiguous, metadata={"epoch": str(epoch)}))


def kept_epoch(folder: SystemFolder) -> int:
    """Return the epoch, from 1, whose weights model.safetensors holds; 0 before the end of the first."""
    if why := why_no_file(folder.weights):
        raise CheckpointError(f"{folder.weights}: {why}")
    if folder.weights == folder.network:
        return 0
    try:
        with safetensors.safe_open(folder.weights, "pt") as file:
            return int(file.metadata()["epoch"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder.weights} is damaged: {error}") from error


def load_weights(folder: SystemFolder, model: nn.Module) -> EmbeddingMap | None:
    """Load model.safetensors into `model`, strictly, and return the system's embedding map if it has one.

    Raises
    ------
    CheckpointError
        Where the file is missing or damaged, or does not fit the model.
    """
    weights, source = read_weights(folder)
    map_tensors = {key: weights.pop(key) for key in list(weights) if key.startswith(MAP_PREFIX)}
    load_state(model, weights, source)
    if not map_tensors:
        return None
    try:
        return EmbeddingMap(map_tensors[f"{MAP_PREFIX}mean"], map_tensors[f"{MAP_PREFIX}matrix"])
    except (KeyError, ShapeError) as error:
        raise CheckpointError(f"{source} is damaged: its embedding map is incomplete: {error}") from error


def read_weights(folder: SystemFolder) -> tuple[dict[str, Tensor], str]:
    """Read the tensors of model.safetensors; returns them and the file's path. CheckpointError for a damaged file."""
    if not folder.weights.is_file():
        raise CheckpointError(
            f"{folder.path} holds no model.safetensors yet; train it to its first checkpoint with "
            f"`xvectors train DATA -o {folder.path} --resume`"
        )
    try:
        return safetensors.torch.load_file(folder.weights), str(folder.weights)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{folder.weights} is damaged, or not a safetensors file: {error}") from error


def load_state(model: nn.Module, weights: Mapping[str, Any], source: str) -> None:
    """Load `weights` into `model`, strictly; the CheckpointError names the keys and shapes that differ."""
    own = model.state_dict()
    missing, unknown = sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys())
    shapes = [
        f"{key} is {list(weights[key].shape)} where the model has {list(own[key].shape)}"
        for key in own
        if key in weights and weights[key].shape != own[key].shape
    ]
    problems = shapes[:3]
    problems += [f"it lacks {first_few(missing)}"] if missing else []
    problems += [f"it has the unknown {first_few(unknown)}"] if unknown else []
    if problems:
        raise CheckpointError(f"{source} does not fit this model: {'; '.join(problems)}")
    model.load_state_dict(weights, strict=True)


def read_text(path: Path) -> str:
    """Read a text file of a system; CheckpointError where it is missing or unreadable."""
    if why := why_no_file(path):
        raise CheckpointError(f"{path}: {why}; this part of the system is missing, restore it from a copy")
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def subtable(table: Mapping[str, Any], key: str, path: Path) -> Mapping[str, Any]:
    """Return the table [key] of a TOML file; CheckpointError where it is missing."""
    value = table.get(key)
    if not isinstance(value, Mapping):
        raise CheckpointError(f"{path} is damaged: the table [{key}] is missing")
    return value
