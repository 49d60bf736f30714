"""Operations of a cell."""

import pytest

from scgpt_infer.bench.work import work_of


def test_the_whole_human_model_has_the_published_numbers():
    work = work_of({"embsize": 512, "d_hid": 512, "nlayers": 12})
    assert work is not None
    assert (work.per_token, work.per_pair) == (37_748_736, 24_576)
    assert round(work.per_token / 1e6, 2) == 37.75
    assert work.operations(1200) == 37_748_736 * 1200 + 24_576 * 1200**2


def test_another_size_counts_every_matrix_product_of_its_layers():
    width, hidden, layers, length = 64, 128, 3, 50
    linear = [(width, width)] * 4 + [(width, hidden), (hidden, width)]
    by_layer = sum(2 * length * rows * columns for rows, columns in linear)
    by_layer += 2 * (2 * length * length * width)  # queries x keys, weights x values
    work = work_of({"embsize": width, "d_hid": hidden, "nlayers": layers})
    assert work is not None
    assert work.operations(length) == layers * by_layer


@pytest.mark.parametrize("args", [{}, {"embsize": 512, "d_hid": 512}, {"embsize": 512, "d_hid": "512", "nlayers": 12}])
def test_a_bundle_without_sizes_has_no_count(args):
    assert work_of(args) is None
