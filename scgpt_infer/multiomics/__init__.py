"""Cells measured in several modalities: the command ``multiomic``."""
