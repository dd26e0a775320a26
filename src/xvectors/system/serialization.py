"""The system directory: what training writes and every other command reads. In: a folder. Out: model, features, labels.

system.toml         recipe, label count, versions, what code is from outside: enough to rebuild everything
model.safetensors   the kept weights
speakers.csv        class index -> speaker
corpus.csv          the corpus as it was divided: every kept recording with its split
backend.npz         what turns two embeddings into a score
calibration.toml    what turns a score into a log-likelihood ratio, and what that and the back-end rest on
history.csv         one row an epoch
state/              what an exact resume needs
report/             evaluation, embeddings and plots
"""

from __future__ import annotations

import csv
import hashlib
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

from xvectors.backends.storage import upgrade_backend
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
from xvectors.config.tables import parse_list
from xvectors.errors import CheckpointError, ConfigError, ShapeError
from xvectors.features import Fbank
from xvectors.files import atomic_write, why_no_file, write_text
from xvectors.files.tables import restored, write_table
from xvectors.models import MODELS, Backbone, EmbeddingMap, build_model
from xvectors.system.folder import SystemFolder
from xvectors.text import brief, composed, count, first_few
from xvectors.verification.fingerprint import (
    SYSTEM_FORMAT_VERSION,
    check_format,
    embedding_settings,
    fingerprint,
    weights_digest,
)
from xvectors.verification.verifier import FORMAT_VERSION as CALIBRATION_FORMAT_VERSION

MAP_PREFIX = "embedding_map."


@brief()
@dataclass(frozen=True, kw_only=True)
class Description:
    """What system.toml and speakers.csv say."""

    recipe: Recipe
    speakers: tuple[str, ...]
    versions: Mapping[str, str]


def make_model(recipe: Recipe, num_speakers: int) -> Backbone:
    """The recipe's network, freshly initialized from torch's generator.

    Its classes are the speakers in the order of speakers.csv, then the speakers again for every speed of augmentation.
    """
    for key in ("num_speakers", "input_dim"):
        if key in recipe.model.settings:
            raise ConfigError(f"model.{key} is the corpus's and the features' to say; leave it out")
    return build_model(
        recipe.model.name,
        num_speakers=num_classes(recipe, num_speakers),
        input_dim=recipe.features.num_mels,
        **recipe.model.settings,
    )


def check_size(folder: SystemFolder, description: Description) -> None:
    """Compare the shapes that system.toml asks for with those in model.safetensors, before memory is taken for them.

    Raises CheckpointError where they differ or the weights cannot be read. A network from outside xvectors is not
    compared: not every one can be built without data.
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
        raise CheckpointError(f"{folder.weights} is damaged or no safetensors file: {error}") from error
    differing = [f"{key} is {shapes[key]} where the model has {own[key]}" for key in shapes if shapes[key] != own[key]]
    if differing:
        some = first_few(sorted(differing), separator="; ")
        raise CheckpointError(f"{folder.weights} does not fit this model: {some}")


def num_classes(recipe: Recipe, num_speakers: int) -> int:
    return num_speakers * (1 + len(recipe.augment.speed_factors))


def make_features(recipe: Recipe) -> Fbank:
    return Fbank(**asdict(recipe.features))


def write_description(folder: SystemFolder, recipe: Recipe, speakers: Sequence[str]) -> None:
    """Write speakers.csv, then system.toml, whose presence says that the folder is a system."""
    write_table(folder.speakers, ["index", "speaker"], enumerate(speakers))
    description: dict[str, Any] = {
        "format_version": SYSTEM_FORMAT_VERSION,
        "num_speakers": len(speakers),
        "versions": current_versions(),
        "recipe": recipe_to_mapping(recipe),
    }
    if code := code_from_outside(recipe):
        description["code"] = code
    write_text(folder.description, to_toml(description))


def code_from_outside(recipe: Recipe) -> list[dict[str, str]]:
    """What the recipe takes from outside xvectors: the key and name, module, class, and distribution where known."""
    names: list[tuple[Extensions, str, Mapping[str, Any]]] = [
        (BACKBONES, recipe.model.name, MODELS),
        (LOSSES, recipe.loss.name, dict.fromkeys(BUILTIN_LOSSES)),
    ]
    names += [(AUGMENTATIONS, name, {}) for name in recipe.augment.custom]
    return [
        {"key": kind.key, "name": name, **origin(kind.find(name, builtin))}
        for kind, name, builtin in names
        if name not in builtin
    ]


def current_versions() -> dict[str, str]:
    """The versions that this process runs with, as system.toml records those of the training."""
    return {
        "xvectors": metadata.version("xvectors"),
        "torch": torch.__version__,
        "numpy": metadata.version("numpy"),
        "python": platform.python_version(),
    }


def read_description(folder: SystemFolder) -> Description:
    """Raises CheckpointError where the folder is no system or a file of it is damaged or from a newer version."""
    if not folder.path.is_dir():
        raise CheckpointError(f"{folder.path}: no such folder; `xvectors train DATA -o {folder.path}` makes a system")
    if not folder.description.is_file():
        raise CheckpointError(f"{folder.path} holds no system.toml, so it is not a system directory")
    table = parse_toml(_read_text(folder.description), str(folder.description))
    check_format(table, folder.path)
    embedding_settings(table, str(folder.description))
    recipe = recipe_from_mapping(_table(table, "recipe", folder.description), str(folder.description))
    speakers = read_speakers(folder.speakers)
    if len(speakers) != table.get("num_speakers"):
        raise CheckpointError(
            f"{folder.speakers} names {count(len(speakers), 'speaker')} but {folder.description} counts "
            f"{table.get('num_speakers')!r}; the two belong to different systems"
        )
    return Description(recipe=recipe, speakers=speakers, versions=_table(table, "versions", folder.description))


def upgrade_system(folder: SystemFolder) -> str | None:
    """Bring a system directory of an earlier format up to date.

    Formats 1 and 2 had other names of some keys and weights. Format 1 did not state `normalize_level`: where the mean
    of the features is subtracted, level matters at the floor alone, and the weights do better with it on; weights
    without mean normalization have learned the level of their recordings and keep it.

    Returns what calibrations and galleries of this system are bound to so far (the digest of the weights in format 1,
    else the fingerprint), or None where the system is up to date. Raises CheckpointError for a system that is not
    whole, and changes nothing then.
    """
    table = parse_toml(_read_text(folder.description), str(folder.description))
    version = table.get("format_version")
    if version == SYSTEM_FORMAT_VERSION:
        return None
    old = weights_before = weights_digest(folder.weights)
    content = _renamed_weights(folder.weights)
    weights = hashlib.sha256(content).hexdigest()
    if version in (1, 2):
        before = _table(table, "recipe", folder.description)
        recipe = _respelled(before)
        features = recipe.get("features")
        if version == 1 and isinstance(features, Mapping):
            recipe["features"] = {"normalize_level": features.get("mean_normalization") is True, **features}
        if version == 2:
            parts = {key: dict(_table(before, key, folder.description)) for key in ("features", "model", "data")}
            channel = parts.pop("data").get("channel")
            old = fingerprint({**parts, "channel": channel}, weights_before)
        table = {**table, "recipe": recipe, "format_version": SYSTEM_FORMAT_VERSION}
    check_format(table, folder.path)
    new = fingerprint(embedding_settings(table, str(folder.description)), weights)
    calibration = None
    if folder.calibration.is_file():
        calibration = parse_toml(_read_text(folder.calibration), str(folder.calibration))
        bound_to = calibration.pop("weights_sha256", None) or calibration.get("system_sha256")
        if bound_to not in (old, new):  # the new one where an upgrade was interrupted
            raise CheckpointError(
                f"{folder.calibration} was learned with other weights or features than those of {folder.path}; remove "
                "it, upgrade, and calibrate again with `xvectors calibrate`"
            )
        calibration.update(format_version=CALIBRATION_FORMAT_VERSION, system_sha256=new)
    # system.toml comes last: until then the system is of its earlier format and can be upgraded again
    if folder.backend.is_file():
        upgrade_backend(folder.backend)
    if calibration is not None:
        write_text(folder.calibration, to_toml(calibration))
    if weights != weights_before:
        with atomic_write(folder.weights) as temporary:
            temporary.write_bytes(content)
    write_text(folder.description, to_toml(table))
    return old


RESPELLED = {
    "mean_normalisation": "mean_normalization",
    "optimiser": "optimizer",
    "equaliser_prob": "equalizer_prob",
    "equaliser_max_db": "equalizer_max_db",
}
"""Keys of recipes as formats 1 and 2 spelled them, and as they are now."""
LISTS = ("speeds", "codecs", "custom")
"""Keys of recipes whose values were words of one string in formats 1 and 2."""
RENAMED_WEIGHTS = {"embed.": "embedding.", "factorised.": "factorized."}
"""How names of weights began in formats 1 and 2, and as they begin now."""


def _respelled(table: Mapping[str, Any]) -> dict[str, Any]:
    """Give the keys of a recipe, its tables included, their present spelling, and lists their present form."""
    respelled: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            value = _respelled(value)
        elif key in LISTS and isinstance(value, str):
            value = parse_list(value, key)
        respelled[RESPELLED.get(key, key)] = value
    return respelled


def _renamed_weights(path: Path) -> bytes:
    """Return the content of a weights file with the present names of its tensors."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            names, notes = list(file.keys()), file.metadata()
        renamed = {name: name for name in names}
        for old, now in RENAMED_WEIGHTS.items():
            renamed |= {name: now + name.removeprefix(old) for name in names if name.startswith(old)}
        if all(name == now for name, now in renamed.items()):
            return path.read_bytes()
        weights = safetensors.torch.load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged or no safetensors file: {error}") from error
    return safetensors.torch.save({renamed[name]: value for name, value in weights.items()}, metadata=notes)


def read_speakers(path: Path) -> tuple[str, ...]:
    text = _read_text(path)
    try:
        header, *rows = csv.reader(io.StringIO(text, newline=""), strict=True)
        if header == ["index", "speaker"] and [index for index, _ in rows] == [str(i) for i in range(len(rows))]:
            return tuple(composed(restored(name)) for _, name in rows)
    except (csv.Error, ValueError):  # ValueError: another number of cells
        pass
    raise CheckpointError(f"{path} is damaged: it must list index,speaker with the indices 0, 1, 2, ...")


def write_weights(
    folder: SystemFolder, weights: Mapping[str, Tensor], epoch: int, embedding_map: EmbeddingMap | None = None
) -> None:
    """Write model.safetensors atomically, noting the epoch the weights are from (0: before the first has ended)."""
    if embedding_map is not None:
        weights = {**weights, **{f"{MAP_PREFIX}{key}": value for key, value in embedding_map.state_dict().items()}}
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    with atomic_write(folder.weights) as temporary:
        # not save_file, which makes a file that others may not read
        temporary.write_bytes(safetensors.torch.save(contiguous, metadata={"epoch": str(epoch)}))


def kept_epoch(folder: SystemFolder) -> int:
    """The epoch, from 1, that model.safetensors is from; 0 for weights saved before the first had ended."""
    if why := why_no_file(folder.weights):
        raise CheckpointError(f"{folder.weights}: {why}")
    try:
        with safetensors.safe_open(folder.weights, "pt") as file:
            return int(file.metadata()["epoch"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder.weights} is damaged: {error}") from error


def load_weights(folder: SystemFolder, model: nn.Module) -> EmbeddingMap | None:
    """Load model.safetensors into `model`, strictly; a mismatch is explained in a CheckpointError.

    Returns the map that the embeddings go through behind the network, where the system has one.
    """
    weights, source = read_weights(folder)
    of_map = {key: weights.pop(key) for key in list(weights) if key.startswith(MAP_PREFIX)}
    load_state(model, weights, source)
    if not of_map:
        return None
    try:
        return EmbeddingMap(of_map[f"{MAP_PREFIX}mean"], of_map[f"{MAP_PREFIX}matrix"])
    except (KeyError, ShapeError) as error:
        raise CheckpointError(f"{source} is damaged: its embedding map is incomplete: {error}") from error


def read_weights(folder: SystemFolder) -> tuple[dict[str, Tensor], str]:
    """The tensors of model.safetensors and its path. Raises CheckpointError where it is missing or damaged."""
    if not folder.weights.is_file():
        raise CheckpointError(
            f"{folder.path} holds no model.safetensors yet; train it to its first checkpoint with "
            f"`xvectors train DATA -o {folder.path} --resume`"
        )
    try:
        return safetensors.torch.load_file(folder.weights), str(folder.weights)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{folder.weights} is damaged or no safetensors file: {error}") from error


def load_state(model: nn.Module, weights: Mapping[str, Any], source: str) -> None:
    """`model.load_state_dict(weights, strict=True)` with an error that says which keys or shapes differ."""
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


def _read_text(path: Path) -> str:
    if why := why_no_file(path):
        raise CheckpointError(f"{path}: {why}; the system lacks a part, put back a copy of it")
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def _table(table: Mapping[str, Any], key: str, path: Path) -> Mapping[str, Any]:
    value = table.get(key)
    if not isinstance(value, Mapping):
        raise CheckpointError(f"{path} is damaged: the table [{key}] is missing")
    return value
