"""Cells of a file that calibrate an export: static int8 takes the ranges of activations from them.

In: a path. Out: `CalibrationCells` for `scgpt_export`. It knows no model.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from scgpt_infer.readers import open_cells
from scgpt_runtime.digests import sha256_of

if TYPE_CHECKING:
    from scgpt_export.calibration import CalibrationCells

__all__ = ["calibration_cells"]


def calibration_cells(path: Path, n: int) -> "CalibrationCells":
    """About ``n`` cells spread evenly over a file, the same ones each time.

    Parameters
    ----------
    path
        An ``.h5ad`` file.
    n
        All cells, where the file has fewer.

    Raises
    ------
    CellsError
        The file cannot be read, or nothing in it can be embedded.
    """
    from scgpt_export.calibration import CalibrationCells

    with open_cells(path) as source:
        names = {column: tuple(found) for column, found in source.gene_names.items()}
        return CalibrationCells(source.sample(n), names, sha256_of(path))
