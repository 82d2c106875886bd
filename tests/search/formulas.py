"""The formulas of cases, as the library makes them."""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F

import anyconv

from .case import Source


@functools.lru_cache(maxsize=64)
def formula_of(source: Source) -> anyconv.Formula:
    """The library's formula of a source text."""
    return eval(source.text, {"torch": torch, "F": F, "math": math, "anyconv": anyconv})
