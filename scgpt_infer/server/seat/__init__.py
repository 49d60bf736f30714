"""The process that runs a model: cells come in over a local socket, wait in a fair queue, are answered in batches."""
