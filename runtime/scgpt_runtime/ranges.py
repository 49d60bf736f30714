"""The fixed grid that rows lie on: how many a range has. No batch crosses a range, whoever works on it and when."""

__all__ = ["RANGE_ROWS"]

RANGE_ROWS = 1024
"""Rows of one range of the grid, which begins at row 0. Another number makes other batches, and so other last bits."""
