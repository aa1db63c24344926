"""Compiled kernels: arrays in, arrays out, a status code back. Nothing here knows the rest of the package."""
