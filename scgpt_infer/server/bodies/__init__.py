"""Bodies of the native protocol: cells in as JSON or Arrow, answers out as JSON, npy or Arrow. It knows no HTTP."""
