"""Layers and poolings that the networks are built from."""
