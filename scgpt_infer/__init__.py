"""scgpt-infer: exact, fast inference for scGPT."""
