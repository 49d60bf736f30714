"""docs/serving/uploads.md tells the limits that are in force."""

from pathlib import Path

from scgpt_infer.server.uploads import SUFFIXES, Limits

SERVING = Path(__file__).parents[4] / "docs/serving"


def test_the_limits_are_those_in_force():
    told, limits = " ".join((SERVING / "uploads.md").read_text(encoding="utf-8").split()), Limits()
    for words in (
        f"{limits.memory_bytes >> 30} GiB of memory",
        f"temporary files of {limits.temporary_bytes >> 30} GiB",
        f"{limits.seconds:.0f} seconds and one more for each {limits.bytes_per_second / 1e6:.0f} MB",
        f"larger than {limits.chunk_bytes >> 20} MiB",
        f"more than {limits.ratio:.0f} times the file above {limits.unpacked_floor >> 20} MiB",
        f"of {limits.unpacked_bytes >> 30} GiB",
        f"attributes of more than {limits.attribute_bytes >> 20} MiB",
        f"{limits.objects:,} groups and arrays; nesting of more than {limits.depth}",
        f"lines of more than {limits.line_bytes >> 20} MiB",
        f"more than {limits.cells:,} cells or {limits.genes:,} genes",
    ):
        assert words in told, words


def test_the_page_names_the_formats():
    told = (SERVING / "page.md").read_text(encoding="utf-8")
    assert {suffix for suffix in SUFFIXES if f"`{suffix}`" in told} == {s for s in SUFFIXES if not s.endswith(".gz")}
