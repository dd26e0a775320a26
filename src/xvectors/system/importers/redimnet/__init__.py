"""ReDimNet and ReDimNet2."""
