"""Joules that the machine used, from the counters that Linux shows of the processor (RAPL).

In: ``/sys/class/powercap``. Out: `EnergyMeter`, or the reason why there is none. Counters run over; a measurement must
be shorter than one round of a counter, which takes minutes.
"""

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Counter", "EnergyMeter", "EnergySource", "find_meter"]

_POWERCAP = Path("/sys/class/powercap")
_COUNTED = ("package", "dram")  # psys contains the packages, core and uncore are parts of them


@dataclass(frozen=True, slots=True)
class EnergySource:
    """Where joules come from; `source` is None where they cannot be read, and `note` says why."""

    source: str | None
    note: str


@dataclass(frozen=True, slots=True)
class Counter:
    """A counter of microjoules that starts again at 0 after `top`."""

    path: Path
    name: str
    top: int

    def read(self) -> int:
        """Microjoules now."""
        return int(self.path.read_text(encoding="ascii"))

    def between(self, before: int, after: int) -> int:
        """Microjoules from one reading to the next."""
        return after - before if after >= before else after - before + self.top


@dataclass(frozen=True, slots=True)
class EnergyMeter:
    """Counters that together cover the processor and its memory."""

    counters: tuple[Counter, ...]

    def read(self) -> tuple[int, ...]:
        """All counters now."""
        return tuple(counter.read() for counter in self.counters)

    def joules(self, before: tuple[int, ...], after: tuple[int, ...]) -> float:
        """Joules from one reading to the next."""
        readings = zip(self.counters, before, after, strict=True)
        return sum(counter.between(first, last) for counter, first, last in readings) / 1e6


def find_meter(root: Path = _POWERCAP) -> tuple[EnergyMeter | None, EnergySource]:
    """The meter of this machine, and where its figures come from or why there is none."""
    counters = []
    for zone in sorted(root.glob("intel-rapl*:*")):  # AMD's processors are found under the same name
        try:
            name = (zone / "name").read_text(encoding="ascii").strip()
            if not name.startswith(_COUNTED):
                continue
            counter = Counter(zone / "energy_uj", name, int((zone / "max_energy_range_uj").read_text(encoding="ascii")))
            counter.read()
        except PermissionError:
            return None, EnergySource(None, f"{zone / 'energy_uj'} can be read by root alone")
        except (OSError, ValueError):
            continue
        counters.append(counter)
    if not counters:
        return None, EnergySource(
            None, "this machine shows no energy counters (no intel-rapl under /sys/class/powercap)"
        )
    told = ", ".join(counter.name for counter in counters)
    return EnergyMeter(tuple(counters)), EnergySource("RAPL", f"{told}; all that ran meanwhile, idle draw included")
