"""What a system is worth: errors with intervals, groups, slices, leakage, mistakes and the verdict. Draws nothing."""
