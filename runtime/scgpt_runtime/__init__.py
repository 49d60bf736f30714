"""Lean scGPT runtime: arrays in, arrays out. numpy, numba and ONNX Runtime; no torch."""
