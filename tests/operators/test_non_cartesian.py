"""The Fourier transform at any frequencies: sums written out, the Cartesian transform, gradients."""

import sys

import numpy as np
import pytest
import torch

from calepin.operators import (
    NonCartesianFourier,
    Sensitivities,
    centred_fft,
    radial_trajectory,
)
from calepin.testing import check_operator

SIZE = (9, 12)


def randn(*shape, dtype=torch.complex128, seed=0):
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def frequencies(n=40, size=SIZE, seed=1):
    """Return frequencies anywhere in the allowed range, its ends among them."""
    sides = torch.tensor(size, dtype=torch.float64)
    k = (torch.rand(n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) - 0.5) * sides
    k[0], k[1] = sides / 2, -sides / 2
    return k


def matrix(k, size=SIZE):
    """Return the transform written out, (n_samples, height * width)."""
    rows, columns = (torch.arange(n, dtype=torch.float64) - n // 2 for n in size)
    turns = k[:, :1, None] * rows[:, None] / size[0] + k[:, 1:, None] * columns / size[1]
    full = torch.polar(torch.ones_like(turns), -2 * torch.pi * turns)
    return full.flatten(1) / (size[0] * size[1]) ** 0.5


@pytest.mark.parametrize("shape", [SIZE, (3, *SIZE)])
def test_it_conforms(shape):
    check_operator(NonCartesianFourier(shape, frequencies()), dtype=torch.complex128)


def test_one_image_is_measured_by_several_coils():
    maps = randn(2, 3, *SIZE)
    operator = NonCartesianFourier((3, *SIZE), frequencies()) @ Sensitivities(maps)
    check_operator(operator, dtype=torch.complex128)
    assert operator.in_shape == (2, *SIZE)
    assert operator.out_shape == (3, 40)


@pytest.mark.parametrize(("dtype", "error"), [(torch.complex64, 1e-6), (torch.complex128, 1e-12)])
def test_it_is_the_sum_over_pixels(dtype, error):
    operator, full = NonCartesianFourier((2, *SIZE), frequencies()), matrix(frequencies())
    x, y = randn(4, 2, *SIZE), randn(4, 2, 40, seed=2)
    for found, expected in (
        (operator(x.to(dtype)), x.flatten(2) @ full.T),
        (operator.adjoint(y.to(dtype)), (y @ full.conj()).view(4, 2, *SIZE)),
    ):
        assert found.dtype == dtype
        assert torch.linalg.vector_norm(found - expected) < error * torch.linalg.vector_norm(expected)
    norm = float(torch.linalg.matrix_norm(full, 2)) ** 2
    assert operator.norm_squared() == pytest.approx(norm, rel=1e-3)


@pytest.mark.parametrize("size", [(8, 12), (9, 7)])
def test_whole_numbers_are_the_samples_of_the_centred_transform(size):
    rows, columns = (torch.arange(n, dtype=torch.float64) - n // 2 for n in size)
    operator = NonCartesianFourier(size, torch.cartesian_prod(rows, columns))
    x = randn(2, *size)
    torch.testing.assert_close(operator(x), centred_fft(x).flatten(1))
    torch.testing.assert_close(operator.adjoint(operator(x)), x)


def test_the_density_is_that_of_a_grid_and_gridding_with_it_is_nearly_the_inverse():
    size = (24, 32)
    rows, columns = (torch.arange(n, dtype=torch.float64) - n // 2 for n in size)
    grid = NonCartesianFourier(size, torch.cartesian_prod(rows, columns))
    torch.testing.assert_close(grid.density(), torch.ones(24 * 32), atol=1e-4, rtol=0)
    twice = NonCartesianFourier(size, torch.cartesian_prod(rows, columns).repeat(2, 1))
    torch.testing.assert_close(twice.density(), 2 * torch.ones(2 * 24 * 32), atol=2e-4, rtol=0)
    spokes = NonCartesianFourier(size, radial_trajectory(size, 60))
    x = torch.outer(torch.hann_window(24), torch.hann_window(32))[None]
    gridded = spokes.adjoint(spokes(x) / spokes.density())
    assert torch.linalg.vector_norm(gridded - x) < 0.25 * torch.linalg.vector_norm(x)


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
def test_half_precision_is_refused_by_name():
    operator = NonCartesianFourier(SIZE, frequencies())
    for apply, name, shape in ((operator, "x", SIZE), (operator.adjoint, "y", (40,))):
        with pytest.raises(
            TypeError, match=f"{name}: NonCartesianFourier expected torch.complex64 or .*complex32"
        ):
            apply(torch.zeros((1, *shape), dtype=torch.complex32))


def test_real_images_are_measured_too_with_real_gradients():
    operator = NonCartesianFourier(SIZE, frequencies())
    x = randn(2, *SIZE, dtype=torch.float64).requires_grad_()
    y = operator(x)
    torch.testing.assert_close(y, operator(x.detach().to(torch.complex128)))
    target = randn(2, 40)
    (gradient,) = torch.autograd.grad((y - target).abs().square().sum(), x)
    expected = 2 * operator.adjoint(y.detach() - target).real
    torch.testing.assert_close(gradient, expected)
    with pytest.raises(
        ValueError, match="y: NonCartesianFourier expected complex samples, got torch.float64"
    ):
        operator.adjoint(y.detach().real)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # torch's own, by jvp
def test_samples_of_a_batch_are_transformed_as_if_alone_and_under_vmap():
    operator = NonCartesianFourier((2, *SIZE), frequencies())
    x = randn(3, 2, *SIZE)
    y = operator(x)
    assert torch.equal(torch.cat([operator(x[i : i + 1]) for i in range(3)]), y)
    assert torch.equal(torch.func.vmap(lambda one: operator(one[None])[0])(x), y)
    assert torch.equal(torch.func.jvp(operator, (x,), (x,))[1], y)
    assert operator(x[:0]).shape == (0, 2, 40)


def test_results_do_not_depend_on_the_number_of_threads():
    size = (64, 64)
    operator, x = NonCartesianFourier((4, *size), radial_trajectory(size, 40)), randn(1, 4, *size)
    before = torch.get_num_threads()
    found = []
    try:
        for n in (1, 2):
            torch.set_num_threads(n)
            found.append((operator(x), operator.adjoint(operator(x))))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_spokes_pass_through_the_middle_and_reach_the_ends_of_both_axes():
    k = radial_trajectory((8, 12), 6).view(6, 24, 2)
    assert not k[:, 12].any()  # the zero frequency of each spoke
    torch.testing.assert_close(k[0, :, 1], (torch.arange(24) - 12) / 2.0, check_dtype=False)
    torch.testing.assert_close(k[3, 0], torch.tensor([-4.0, 0.0]), check_dtype=False)
    radius = torch.hypot(k[..., 0] / 8, k[..., 1] / 12)
    torch.testing.assert_close(radius, radius[:1].expand(6, -1))
    assert radial_trajectory((8, 8), 3, n_samples=5).shape == (15, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((8,), torch.zeros(3, 2)), r"shape: expected \(height, width\) or \(channels, height, width\)"),
        (
            (SIZE, torch.zeros(3, 3)),
            r"coordinates: expected a real tensor of finite frequencies, shape \(n_sa",
        ),
        ((SIZE, torch.zeros(0, 2)), "coordinates: expected a real tensor"),
        ((SIZE, torch.zeros(3, 2, dtype=torch.int64)), "coordinates: expected a real tensor"),
        ((SIZE, torch.full((3, 2), np.nan)), "coordinates: expected a real tensor of finite"),
        (
            (SIZE, torch.tensor([[0.0, 6.5]])),
            "coordinates: expected cycles per field of view from -6 to 6 along axis 1, got 6.5",
        ),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(arguments, message):
    with pytest.raises(ValueError, match=message):
        NonCartesianFourier(*arguments)


def test_without_finufft_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "finufft", None)
    with pytest.raises(ModuleNotFoundError, match=r"needs finufft: pip install 'calepin\[nufft\]'"):
        NonCartesianFourier(SIZE, frequencies())


@pytest.mark.parametrize("scale", [0.5, torch.pi])
def test_coordinates_in_other_units_are_told(scale):
    k = radial_trajectory((64, 64), 8)
    with pytest.warns(UserWarning, match="coordinates: they reach .* are they cycles per field of view"):
        NonCartesianFourier((64, 64), k / 32 * scale)
