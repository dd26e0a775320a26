"""Published models of other toolkits as systems: recognized by their tensors, converted, written as a directory."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xvectors.config import Recipe
from xvectors.errors import CheckpointError, ConfigError
from xvectors.files import digest
from xvectors.models import Backbone
from xvectors.system.folder import SystemFolder
from xvectors.system.importers import threedspeaker
from xvectors.system.importers.checkpoint import read_checkpoint
from xvectors.system.importers.family import Family, Imported, Source
from xvectors.system.importers.sources import Found, find_source
from xvectors.system.serialization import load_state, make_model, write_description, write_weights
from xvectors.text import first_few, nearest

__all__ = ["FAMILIES", "Family", "Imported", "Source", "convert", "import_model"]

logger = logging.getLogger(__name__)

FAMILIES: tuple[Family, ...] = (*threedspeaker.FAMILIES,)
"""The kinds of models that can be imported, in the order in which they are tried."""

TORCH_SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".tar")


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """A model in our terms, with the family it was recognized as."""

    family: Family
    imported: Imported
    notes: tuple[str, ...]


def import_model(
    source: str | Path, output: str | Path, *, family: str | None = None, sha256: str | None = None
) -> SystemFolder:
    """Import a published model as a system directory.

    Parameters
    ----------
    source
        A file, a folder, hf://owner/name or hf://owner/name@revision (extra `hub`), or an https address.
    output
        The system directory to write, which must not hold a system yet.
    family
        Name of the family, where it cannot be recognized by the tensors.
    sha256
        The digest that the file must have.

    Raises
    ------
    CheckpointError
        The source cannot be read or downloaded, is of no known family, or lacks tensors, each of which is named.
    ConfigError
        `family` is unknown.
    StorageError
        The directory cannot be written.
    """
    folder = SystemFolder(Path(output))
    if folder.description.is_file():
        raise CheckpointError(f"{folder.path} holds a system already; give another directory")
    found = find_source(source)
    file_sha256 = digest(found.path)
    if sha256 is not None and sha256.lower() != file_sha256:
        raise CheckpointError(f"{found.path}: its sha256 is {file_sha256}, not {sha256}; it is another file")
    converted = convert(found.path, family)
    recipe = Recipe(
        name=converted.family.name,
        description=f"imported: {converted.family.title}",
        features=converted.imported.features,
        model=converted.imported.model,
    )
    weights = complete(make_model(recipe, 0), converted.imported.weights, str(found.path))
    if not converted.family.seen:
        logger.warning(
            "%s: the layout of %s was reconstructed from its code; no weights that its publisher trained were compared",
            found.path,
            converted.family.title,
        )
    for note in converted.notes:
        logger.warning("%s: %s", found.path, note)
    folder.path.mkdir(parents=True, exist_ok=True)
    write_weights(folder, weights, epoch=0)
    write_description(folder, recipe, (), _origin(converted, found, file_sha256))
    return folder


def convert(path: Path, family: str | None = None) -> Conversion:
    """Recognize a model file and convert it, without writing anything; arguments and errors of `import_model`."""
    chosen = None if family is None else _named(family)
    if path.suffix.lower() in TORCH_SUFFIXES or chosen is not None:
        checkpoint = read_checkpoint(path)
        source = Source(path=path, tensors=checkpoint.tensors, extras=checkpoint.extras)
        notes = checkpoint.notes
    else:
        source, notes = Source(path=path, tensors={}), ()
    chosen = chosen or _recognized(source)
    imported = chosen.convert(source)
    return Conversion(family=chosen, imported=imported, notes=(*notes, *imported.notes))


def complete(model: Backbone, weights: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Add what an imported model lacks and its embedding does not need: the class layers, as zeros, and counters.

    Raises CheckpointError, naming the tensors, where the embedding needs others.
    """
    own = model.state_dict()
    needed = used_by_embedding(model)
    extra = {key: torch.zeros_like(value) for key, value in own.items() if key not in needed and key not in weights}
    extra |= {key: torch.ones_like(own[key]) for key in extra if key.endswith("running_var")}
    full = {**weights, **extra}
    load_state(model, full, source)
    return full


def used_by_embedding(model: Backbone) -> set[str]:
    """Return the names of the state that embeddings depend on."""
    shadow = model.eval()
    shadow.zero_grad()
    frames = torch.zeros(1, model.context_frames + 1, model.input_dim)
    torch.autograd.backward(shadow.embed(frames).sum())
    used = {name for name, parameter in shadow.named_parameters() if parameter.grad is not None}
    shadow.zero_grad()
    modules = {name.rpartition(".")[0] for name in used}
    for name, module in shadow.named_modules():
        # a BatchNorm without weights counts with the module that holds it
        if isinstance(module, torch.nn.BatchNorm1d) and (name in modules or not module.affine):
            used |= {f"{name}.running_mean", f"{name}.running_var"}
    return used


def _named(name: str) -> Family:
    known = {family.name: family for family in FAMILIES}
    if name not in known:
        raise ConfigError(f"unknown family {name!r}{nearest(name, known)}")
    return known[name]


def _recognized(source: Source) -> Family:
    found = [family for family in FAMILIES if family.matches(source)]
    if found:
        return found[0]
    raise CheckpointError(f"{source.path}: {_looks_like(source)}; tried {', '.join(each.name for each in FAMILIES)}")


def _looks_like(source: Source) -> str:
    if not source.tensors:
        return "is not a file of weights that is known here"
    return (
        f"is of no known family: it holds {len(source.tensors):,} tensors such as "
        f"{first_few(source.tensors, 4)}; if it is one of them under other names, give --family"
    )


def _origin(converted: Conversion, found: Found, sha256: str) -> dict[str, Any]:
    """The table [origin] of system.toml."""
    table: dict[str, Any] = {
        "family": converted.family.name,
        "title": converted.family.title,
        "source": found.address,
        "file": found.path.name,
        "sha256": sha256,
        "imported": datetime.date.today().isoformat(),
        "published_weights_seen": converted.family.seen,
    }
    table |= {key: value for key, value in (("revision", found.revision), ("license", found.license)) if value}
    if converted.notes:
        table["notes"] = list(converted.notes)
    if converted.imported.figures:
        table["figures"] = dict(converted.imported.figures)
    return table
