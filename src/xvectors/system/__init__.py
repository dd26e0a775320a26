"""System directories: their paths (folder), what is written in them (serialization), the hub, the bundled starter."""

from xvectors.system.folder import STARTER, SystemFolder, find_system, starter_folder

__all__ = ["STARTER", "SystemFolder", "find_system", "starter_folder"]
