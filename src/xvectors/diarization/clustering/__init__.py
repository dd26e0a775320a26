"""From embeddings of windows to speakers: hierarchical, spectral and Bayesian clustering, and their choice."""
