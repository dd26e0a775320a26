"""Decoders: container formats read for their true length, and samples from libsndfile or FFmpeg, also under limits."""
