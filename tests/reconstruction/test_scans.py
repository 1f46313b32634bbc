"""An image or k-space becomes a scan, and a scan an image, as on the command line."""

import numpy as np
import pytest

from calepin.cli import main
from calepin.datasets import load_sample, read_image
from calepin.reconstruction import reconstruct_scan, scan_image, scan_kspace


@pytest.fixture
def kspace(rng):
    return rng.standard_normal((2, 16, 12)) + 1j * rng.standard_normal((2, 16, 12))


def test_python_does_what_the_command_does(tmp_path):
    path = tmp_path / "out.png"
    options = ["--size=16", "--ratio=0.5", "--operator=dct", "--max-iter=20", "--seed=3", "--quiet"]
    assert main(["reconstruct", "--sample", "coins", "-o", str(path), *options]) == 0
    scan = scan_image(load_sample("coins"), "dct", ratio=0.5, size=16, seed=3)
    found = reconstruct_scan(scan, max_iter=20, random_state=3)
    assert found.n_iter == 20
    np.testing.assert_allclose(read_image(path).pixels, found.image, atol=1 / 255)


def test_what_was_acquired_is_kept_and_its_fraction_is_known(kspace):
    scan = scan_kspace(kspace, acceleration=2, pattern="columns")
    assert scan.fraction == 0.5
    assert scan.truth is not None
    found = reconstruct_scan(scan, max_iter=5, n_starts=1, random_state=0)
    np.testing.assert_allclose(scan.operator(found.x), scan.y, atol=1e-4 * float(scan.y.abs().max()))


def test_a_mask_of_columns_is_that_of_each_row(kspace):
    columns = np.arange(12) % 3 > 0
    of_columns = scan_kspace(kspace, mask=columns)
    full = scan_kspace(kspace, mask=np.tile(columns, (16, 1)))
    assert of_columns.fraction == full.fraction == pytest.approx(2 / 3)
    np.testing.assert_array_equal(of_columns.y, full.y)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"acceleration": 2, "mask": np.ones((16, 12))}, "mask: expected one of mask and acceleration"),
        (
            {"mask": np.ones((12, 16))},
            r"mask: expected shape \(16, 12\), or \(12,\) of columns, got \(12, 16\)",
        ),
        ({"mask": np.ones(16)}, r"mask: expected shape \(16, 12\), or \(12,\) of columns, got \(16,\)"),
        ({"acceleration": 2, "pattern": "lines"}, "pattern: expected one of 'points', 'columns'"),
    ],
)
def test_kspace_that_cannot_be_thinned_out_is_refused(kspace, settings, message):
    with pytest.raises(ValueError, match=message):
        scan_kspace(kspace, **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "radon"}, "kind: expected one of 'gaussian', 'hadamard', 'dct', 'mask'"),
        ({"ratio": 0.0}, "ratio: expected a finite number above 0"),
        ({"mask": np.ones((5, 5), bool)}, "mask: expected kind 'mask' beside it, got 'hadamard'"),
    ],
)
def test_a_measurement_that_does_not_exist_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        scan_image(load_sample("coins"), **settings)
