"""From a scGPT checkpoint to a bundle, once and offline. Needs torch and onnx."""
