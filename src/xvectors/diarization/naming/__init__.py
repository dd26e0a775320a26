"""The names of speakers: from a gallery, by hand, and into a gallery."""
