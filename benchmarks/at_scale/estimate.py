"""What millions of cells take on any number of devices: arithmetic on rates, of which each says where it is from.

In: rates. Out: seconds, money, bytes, and the stage that is the limit. Nothing is measured here.
"""

from dataclasses import dataclass

__all__ = ["Device", "Estimate", "Rates", "devices_at_limit", "estimate"]


@dataclass(frozen=True, slots=True)
class Device:
    """What runs the model.

    Attributes
    ----------
    name
        For the table.
    cells_per_second
        Of the model alone.
    price
        Of a device, and the cores beside it, for an hour.
    is_measured
        Whether the rate was measured here. If not, it is an assumption.
    source
        Where the rate is from.
    price_source
        Where the price is from.
    """

    name: str
    cells_per_second: float
    price: float
    is_measured: bool
    source: str
    price_source: str


@dataclass(frozen=True, slots=True)
class Rates:
    """What everything but the model does, as measured.

    Attributes
    ----------
    feeding
        Cells a second that the cores beside one device read, tokenise, pack and keep as parts.
    merging
        Cells a second that one process puts together into the output, whatever the number of devices.
    input_bytes, parts_bytes, output_bytes
        Of a cell.
    """

    feeding: float
    merging: float
    input_bytes: float
    parts_bytes: float
    output_bytes: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a job would take.

    Attributes
    ----------
    parts_seconds
        Until the last part is kept: all devices work.
    merge_seconds
        Until the output is whole: one process works, and one device is paid for.
    cost
        In the unit of the price.
    limit
        ``model``, ``feeding`` or ``merging``: the stage that takes longest.
    read_rate, write_rate
        Bytes a second that all devices together ask of the disk until the last part.
    """

    parts_seconds: float
    merge_seconds: float
    cost: float
    limit: str
    read_rate: float
    write_rate: float

    @property
    def seconds(self) -> float:
        """In all."""
        return self.parts_seconds + self.merge_seconds


def estimate(n_cells: int, n_devices: int, device: Device, rates: Rates) -> Estimate:
    """What so many cells take on so many devices, each with cores of its own beside it.

    Devices share nothing until the merge: each takes its ranges of the rows and keeps its parts. So a device works at
    the rate of its model or of what feeds it, whichever is slower.
    """
    model, feeding = n_cells / (device.cells_per_second * n_devices), n_cells / (rates.feeding * n_devices)
    parts, merge = max(model, feeding), n_cells / rates.merging
    limit = "merging" if merge > parts else "model" if model >= feeding else "feeding"
    cost = (n_devices * parts + merge) / 3600 * device.price
    read, written = (n_cells * size / parts for size in (rates.input_bytes, rates.parts_bytes))
    return Estimate(parts, merge, cost, limit, read, written)


def devices_at_limit(device: Device, rates: Rates) -> float:
    """The number of devices from which the merge takes longer than all else."""
    return rates.merging / min(device.cells_per_second, rates.feeding)
