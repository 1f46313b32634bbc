"""Latents to integers and integers to bytes, and back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from calepin.compression import Quantiser
from calepin.compression.coding import EncodedIntegers, encode_integers


@given(
    latents=arrays(np.float64, (5, 3), elements=st.floats(-1e6, 1e6)),
    digits=st.integers(0, 9),
    bits=st.integers(1, 32),
)
@settings(max_examples=25, deadline=None)
def test_any_latents_come_back_rounded(latents, digits, bits):
    for quantiser in (Quantiser.fit(latents, digits=digits), Quantiser.fit(latents, bits=bits)):
        integers = quantiser.encode(latents)
        np.testing.assert_array_equal(encode_integers(integers).decode(), integers)
    rounded = Quantiser(digits)
    np.testing.assert_allclose(rounded.decode(rounded.encode(latents)), latents, atol=0.51 * 10.0**-digits)


def test_a_range_too_small_to_divide_is_one_value():
    latents = np.array([[0.0, 1.0], [5e-324, 2.0]])
    quantiser = Quantiser.fit(latents, bits=2)
    np.testing.assert_array_equal(quantiser.encode(latents), [[0, 0], [0, 3]])


@pytest.mark.parametrize("bits", [1, 3, 12, 32])
def test_bits_spread_over_the_range_of_each_dimension(rng, bits):
    latents = rng.standard_normal((200, 3)) * [1, 100, 0]
    quantiser = Quantiser.fit(latents, bits=bits)
    integers = quantiser.encode(latents)
    assert (integers.min(0)[:2] == 0).all()
    assert (integers.max(0)[:2] == 2**bits - 1).all()
    width = (latents.max(0) - latents.min(0)) / (2**bits - 1)
    error = np.abs(quantiser.decode(integers) - latents)
    assert (error <= 0.5 * width * (1 + 1e-9) + 1e-12).all()


@pytest.mark.parametrize(
    ("largest", "kind"),
    [(127, "int8"), (128, "int16"), (2**15, "int32"), (2**31, "int64"), (-(2**15), "int16")],
)
def test_integers_take_the_smallest_type_that_holds_them(largest, kind):
    integers = np.array([[0, largest], [1, 2]])
    encoded = encode_integers(integers)
    assert (encoded.kind, encoded.shape) == (kind, (2, 2))
    np.testing.assert_array_equal(encoded.decode(), integers)


@pytest.mark.parametrize(
    ("integers", "coding"),
    [
        (np.arange(7)[None], "none"),
        (np.tile(np.arange(7), (5000, 1)), "zlib"),
        (np.tile(np.random.default_rng(0).integers(-99, 99, (1000, 3)), (30, 1)), "lzma"),
    ],
)
def test_the_shortest_coding_is_taken(integers, coding):
    encoded = encode_integers(integers)
    assert encoded.coding == coding
    assert len(encoded.payload) <= integers.size
    np.testing.assert_array_equal(encoded.decode(), integers)


def test_every_coding_is_read():
    import zlib

    integers = np.arange(6).reshape(3, 2)
    raw = integers.T.astype(np.int8).tobytes()
    for coding, payload in (("none", raw), ("zlib", zlib.compress(raw))):
        np.testing.assert_array_equal(EncodedIntegers("int8", coding, payload, (3, 2)).decode(), integers)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Quantiser(-1), "digits: expected an integer from 0 to 15 or None, got -1"),
        (lambda: Quantiser(16), "digits: expected an integer from 0 to 15"),
        (lambda: Quantiser(None, 33), "bits: expected an integer from 1 to 32 or None, got 33"),
        (lambda: Quantiser(None, None), "digits: expected a number of digits or of bits, got None and None"),
        (lambda: Quantiser(4, 4), "digits: expected a number of digits or of bits, got 4 and 4"),
        (lambda: Quantiser(15).encode(np.full((1, 1), 1e6)), "digits: expected fewer for latents up to 1e"),
    ],
)
def test_what_is_out_of_range_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
