"""What computes a problem: `reference` is the meaning, `native` is torch's own convolution where the formula is one."""
