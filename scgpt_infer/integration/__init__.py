"""Cells of several batches in one space: the command ``integrate``, and scores of how well batches mix."""
