"""The loops, as ordinary Triton: each runs as it stands, for y = sum(x * w)."""
