"""What a file that is sent may be, and what looking at it may take: `Limits`."""

from dataclasses import dataclass

__all__ = ["Limits"]

_MIB, _GIB = 2**20, 2**30


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of an upload. The defaults are far above files of counts as they are written.

    Attributes
    ----------
    cells, genes
        Most of each.
    unpacked_bytes
        Most bytes of everything in it, uncompressed.
    ratio
        How many times its size a file may be when it is unpacked, above `unpacked_floor`. Deflate packs zeros 1,032
        to 1 (zlib's technical notes), matrices of counts up to about 100 to 1.
    unpacked_floor
        Bytes that any file may unpack to.
    chunk_bytes
        Most bytes of one chunk of HDF5, which is unpacked whole.
    objects, depth
        Most groups and arrays of an HDF5 file, and how far they may be nested.
    attribute_bytes
        Most bytes of the attributes of one of them.
    line_bytes
        Most bytes of a line of text.
    memory_bytes
        Address space of the process that looks.
    temporary_bytes
        Most bytes of each file that it may write: text, and matrices by genes, are sorted on the disk.
    seconds, bytes_per_second
        How long it may take: so long, and longer for a file of many bytes.
    """

    cells: int = 10_000_000
    genes: int = 1_000_000
    unpacked_bytes: int = 512 * _GIB
    ratio: float = 400.0
    unpacked_floor: int = 256 * _MIB
    chunk_bytes: int = 512 * _MIB
    objects: int = 100_000
    depth: int = 32
    attribute_bytes: int = _MIB
    line_bytes: int = 64 * _MIB
    memory_bytes: int = 4 * _GIB
    temporary_bytes: int = 64 * _GIB
    seconds: float = 60.0
    bytes_per_second: float = 10e6

    def patience(self, n_bytes: int) -> float:
        """Seconds that a file of so many bytes may take."""
        return self.seconds + n_bytes / self.bytes_per_second

    def unpacked(self, n_bytes: int) -> int:
        """Bytes that a file of so many may unpack to."""
        return min(self.unpacked_bytes, max(self.unpacked_floor, int(self.ratio * n_bytes)))
