"""Counters of the processor's energy, as Linux shows them."""

import pytest

from scgpt_infer.bench.energy import Counter, find_meter


@pytest.fixture
def powercap(tmp_path):
    def zone(name: str, told: str, microjoules: int, top: int = 1_000_000) -> None:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "name").write_text(f"{told}\n")
        (folder / "energy_uj").write_text(f"{microjoules}\n")
        (folder / "max_energy_range_uj").write_text(f"{top}\n")

    zone("intel-rapl:0", "package-0", 900_000)
    zone("intel-rapl:0:0", "core", 500_000)
    zone("intel-rapl:0:1", "dram", 100_000)
    zone("intel-rapl:1", "psys", 999_999)
    return tmp_path


def test_packages_and_memory_count_once_and_their_parts_do_not(powercap):
    meter, source = find_meter(powercap)
    assert meter is not None
    assert [counter.name for counter in meter.counters] == ["package-0", "dram"]
    assert source.source == "RAPL"


def test_a_counter_that_starts_again_at_zero_goes_on_counting(powercap):
    meter, _ = find_meter(powercap)
    assert meter is not None
    before = meter.read()
    (powercap / "intel-rapl:0/energy_uj").write_text("300000\n")  # 100,000 to the top, 300,000 from 0
    (powercap / "intel-rapl:0:1/energy_uj").write_text("150000\n")
    assert meter.joules(before, meter.read()) == pytest.approx(0.45)


def test_a_counter_that_stands_still_gives_nothing(tmp_path):
    assert Counter(tmp_path, "package-0", 1000).between(5, 5) == 0


def test_a_machine_without_counters_says_so(tmp_path):
    meter, source = find_meter(tmp_path)
    assert meter is None
    assert source.source is None
    assert "no energy counters" in source.note


def test_counters_of_root_alone_say_so(powercap, monkeypatch):
    def denied(self):
        raise PermissionError(13, "Permission denied", str(self.path))

    monkeypatch.setattr(Counter, "read", denied)
    meter, source = find_meter(powercap)
    assert meter is None
    assert "root alone" in source.note
