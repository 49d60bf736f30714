"""The command line that all sides share."""

import argparse
from pathlib import Path

__all__ = ["parser"]


def parser(description: str | None) -> argparse.ArgumentParser:
    """Options that the driver gives to every side."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--checkpoint", type=Path, required=True, help="folder of args.json, vocab.json, best_model.pt")
    made.add_argument("--cells", type=Path, required=True, help=".h5ad to embed")
    made.add_argument("--output", type=Path, required=True, help=".h5ad to write")
    made.add_argument("--report", type=Path, required=True, help="where the side leaves its marks")
    made.add_argument("--started", type=float, required=True, help="time.monotonic of the driver at the start")
    return made
