"""Published models of other toolkits as systems: recognized by their tensors, converted, written as a directory."""

from __future__ import annotations

from xvectors.system.importers.families import FAMILIES
from xvectors.system.importers.family import Family, Imported, Source
from xvectors.system.importers.importing import convert, import_model, import_to_cache

__all__ = ["FAMILIES", "Family", "Imported", "Source", "convert", "import_model", "import_to_cache"]
