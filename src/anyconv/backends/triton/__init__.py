"""Kernels for GPUs, generated from formulas as Triton: one complete readable file for each."""
