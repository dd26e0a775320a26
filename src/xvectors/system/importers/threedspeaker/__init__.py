"""Models of 3D-Speaker."""
