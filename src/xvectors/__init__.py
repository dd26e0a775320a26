"""Speaker recognition from a folder of recordings: the public names, imported when first used."""
