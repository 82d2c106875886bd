"""How good the functions of the kernels are, and where their coefficients come from."""
