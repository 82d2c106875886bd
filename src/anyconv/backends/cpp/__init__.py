"""The cpp backend: kernels for the CPU, generated, built once and kept.

*functor* says what is computed at one pixel; *render* writes it in front of the skeletons; *build* compiles the text;
*kernel* keeps what is built and loads it; *launch* calls it with tensors.
"""
