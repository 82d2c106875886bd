"""One published layer, one file; each says its ``RECIPE``."""
