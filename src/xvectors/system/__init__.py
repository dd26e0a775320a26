"""System directories: their paths, their contents, systems on the hub, and the bundled starter system."""

from xvectors.system.folder import STARTER, SystemFolder, find_system, starter_folder

__all__ = ["STARTER", "SystemFolder", "find_system", "starter_folder"]
