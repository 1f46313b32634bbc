import numpy as np
import pytest
import torch
from scipy.fft import dct

from calepin.operators import GaussianSketch, Identity, SubsampledDCT, SubsampledHadamard
from calepin.operators.transforms import cosine_transform, walsh_hadamard
from calepin.testing import check_operator

KINDS = {
    "gaussian": GaussianSketch,
    "gaussian in chunks": lambda *a, **k: GaussianSketch(*a, chunked=True, **k),
    "hadamard": SubsampledHadamard,
    "dct": SubsampledDCT,
}


def generator(seed):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=generator(seed))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("shape", "m"), [((12,), 5), ((1, 4, 8), 32), ((2, 3, 5), 7)])
def test_sketches_conform(kind, shape, m):
    check_operator(KINDS[kind](shape, m).double())
    check_operator(Identity((m,)) @ KINDS[kind](shape, m).double())


@pytest.mark.parametrize("kind", KINDS)
def test_sketches_keep_the_norm_on_average(kind):
    x = randn(1, 24)
    operators = [KINDS[kind]((24,), 6, generator=generator(seed)).double() for seed in range(400)]
    ratio = torch.stack([op(x).square().sum() / x.square().sum() for op in operators])
    assert abs(ratio.mean() - 1) < 4 * ratio.std() / 20


@pytest.mark.parametrize("kind", KINDS)
def test_the_generator_decides_everything_and_precision_nothing(kind):
    first, again, other = (KINDS[kind]((3, 8), 6, generator=generator(seed)) for seed in (1, 1, 2))
    x = randn(2, 3, 8).float()
    assert torch.equal(first(x), again(x))
    assert not torch.allclose(first(x), other(x))
    single = first(x).double()
    torch.testing.assert_close(first.double()(x.double()), single, rtol=1e-5, atol=1e-5)


def test_chunks_make_the_same_matrix(monkeypatch):
    monkeypatch.setattr("calepin.operators.sketch._CHUNK_ENTRIES", 50)
    dense = GaussianSketch((20,), 9, generator=generator(3))
    chunked = GaussianSketch((20,), 9, generator=generator(3), chunked=True)
    x = randn(4, 20).float()
    torch.testing.assert_close(dense(x), chunked(x))
    torch.testing.assert_close(dense.adjoint(dense(x)), chunked.adjoint(chunked(x)))
    assert chunked.matrix.numel() == 0


def test_entries_of_the_gaussian_matrix_are_normal_with_variance_one_over_m():
    entries = GaussianSketch((200,), 100).matrix.flatten() * 10
    assert abs(entries.mean()) < 4 / np.sqrt(20_000)
    assert abs(entries.var() - 1) < 4 * np.sqrt(2 / 20_000)


def test_the_bound_of_a_chunked_norm_is_close():
    exact = GaussianSketch((400,), 100).norm_squared()
    bound = GaussianSketch((400,), 100, chunked=True).norm_squared()
    assert exact <= bound <= 1.5 * exact


@pytest.mark.parametrize("size", [1, 2, 64, 128, 1 << 13])
def test_walsh_hadamard_is_the_butterfly(size):
    x = randn(2, size)
    expected, step = x.clone(), 1
    while step < size:
        pairs = expected.view(2, -1, 2, step)
        expected = torch.stack([pairs[:, :, 0] + pairs[:, :, 1], pairs[:, :, 0] - pairs[:, :, 1]], 2)
        step *= 2
    torch.testing.assert_close(walsh_hadamard(x), expected.reshape(2, size) / np.sqrt(size))
    torch.testing.assert_close(walsh_hadamard(walsh_hadamard(x)), x)


@pytest.mark.parametrize("size", [1, 2, 5, 8, 13])
def test_cosine_transform_is_scipys(size):
    x = randn(3, size)
    expected = torch.from_numpy(dct(x.numpy(), norm="ortho"))
    torch.testing.assert_close(cosine_transform(x), expected)
    torch.testing.assert_close(cosine_transform(expected, inverse=True), x)


def test_padding_is_said():
    assert "15 entries padded to 16" in repr(SubsampledHadamard((3, 5), 4))
    assert "padded" not in repr(SubsampledHadamard((4, 4), 4))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("m", [0, 13])
def test_more_measurements_than_entries_are_refused(kind, m):
    with pytest.raises(ValueError, match=f"n_measurements: expected 1 to 12, .* got {m}"):
        KINDS[kind]((3, 4), m)


@pytest.mark.parametrize("kind", ["gaussian", "hadamard", "dct"])
def test_complex_signals_are_measured_part_by_part(kind):
    operator = KINDS[kind]((8,), 5).double()
    x = torch.complex(randn(2, 8), randn(2, 8, seed=1))
    torch.testing.assert_close(operator(x), torch.complex(operator(x.real), operator(x.imag)))


def test_power_of_two_is_asked_for():
    with pytest.raises(ValueError, match="x: expected a power of two"):
        walsh_hadamard(torch.ones(6))
