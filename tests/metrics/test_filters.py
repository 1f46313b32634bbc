import numpy as np
import pytest

from calepin.metrics import filter_error, match_filters


@pytest.fixture
def reference(rng):
    """Filters that end in zeros, so that a small shift loses nothing."""
    filters = np.zeros((4, 2, 12, 9))
    filters[:, :, 3:9, 2:7] = rng.standard_normal((4, 2, 6, 5))
    return filters


def test_order_sign_and_shift_do_not_count(reference):
    changed = -3 * np.roll(reference[[2, 0, 3, 1]], (2, -1), axis=(2, 3))
    match = match_filters(changed, reference, max_shift=2)
    np.testing.assert_array_equal(match.order, [1, 3, 0, 2])
    np.testing.assert_array_equal(match.signs, -1)
    np.testing.assert_array_equal(match.shifts, [[-2, 1]] * 4)
    np.testing.assert_allclose(match.errors, 0, atol=1e-7)
    np.testing.assert_allclose(match.align(changed), 3 * reference)


def test_without_a_shift_filters_are_compared_where_they_are(reference):
    moved = np.roll(reference, 2, axis=2)
    assert filter_error(moved, reference).min() > 0.3
    np.testing.assert_allclose(filter_error(moved, reference, max_shift=2), 0, atol=1e-7)
    np.testing.assert_allclose(filter_error(moved, reference, max_shift=None), 0, atol=1e-7)


def test_the_error_is_the_sine_of_the_angle():
    reference = np.zeros((1, 1, 4))
    reference[0, 0, 0] = 1
    turned = np.array([[[np.cos(0.3), 0, 0, np.sin(0.3)]]])
    assert filter_error(turned, reference) == pytest.approx(np.sin(0.3))


def test_each_filter_stands_for_one_reference(rng):
    filters = rng.standard_normal((3, 1, 10))
    filters[1] = filters[0]
    match = match_filters(filters, rng.standard_normal((3, 1, 10)), max_shift=None)
    assert sorted(match.order) == [0, 1, 2]
    assert np.abs(match.shifts).max() < 10


def test_what_cannot_be_compared_is_refused(reference):
    with pytest.raises(ValueError, match=r"filters and reference: expected the same shape .* got \(3"):
        match_filters(reference[:3], reference)
    with pytest.raises(ValueError, match="reference: expected finite"):
        filter_error(reference, reference * np.nan)
    with pytest.raises(ValueError, match="max_shift"):
        match_filters(reference, reference, max_shift=-1)
