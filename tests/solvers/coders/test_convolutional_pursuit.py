"""Greedy convolutional codes of counts, and the fit on a support, against what defines them."""

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning

from calepin import IncompatibleError, Problem
from calepin.likelihoods import Binomial, Gaussian, Poisson
from calepin.operators import ConvDictionary, Mask
from calepin.solvers.coders.convolutional_pursuit import (
    ConvolutionalPursuitCoder,
    convolutional_pursuit,
    refit_codes,
)

FAMILIES = [Gaussian(), Binomial(20), Poisson()]
GEOMETRIES = {"1-D": ((1, 60), (1, 9)), "2-D": ((1, 13, 12), (1, 3, 4)), "channels": ((2, 30), (2, 5))}


def random_problem(geometry, likelihood, boundary, n=3, n_components=3):
    """Return a problem of counts behind which there is a sparse code."""
    signal, kernel = GEOMETRIES[geometry]
    generator = torch.Generator().manual_seed(0)
    atoms = torch.randn(n_components, *kernel, generator=generator, dtype=torch.float64)
    atoms /= atoms.flatten(1).norm(dim=1).view(-1, *[1] * len(signal))
    operator = ConvDictionary(atoms, signal_shape=signal[1:], boundary=boundary)
    z = torch.rand(n, *operator.in_shape, generator=generator, dtype=torch.float64)
    z = 3 * z * (torch.rand(z.shape, generator=generator) < 0.08)
    y = likelihood.sample(operator(z) - 0.5, generator=generator)
    return Problem(operator, likelihood, y, offset=-0.5), z


@pytest.mark.parametrize("likelihood", FAMILIES, ids=repr)
@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("boundary", ["zero", "circular"])
@pytest.mark.parametrize("nonnegative", [True, False])
def test_the_fit_on_a_support_is_stationary(likelihood, geometry, boundary, nonnegative):
    problem, z = random_problem(geometry, likelihood, boundary)
    options = {"likelihood": likelihood, "offset": -0.5, "nonnegative": nonnegative, "boundary": boundary}
    fit = refit_codes(problem.y, problem.operator.atoms, z != 0, **options)
    gradient = problem.gradient(fit)
    assert (fit[z == 0] == 0).all()
    moving = (z != 0) & ((fit != 0) if nonnegative else True)
    assert moving.any()
    assert gradient[moving].abs().max() < 1e-4
    if nonnegative:
        assert (fit >= 0).all()
        assert gradient[(z != 0) & (fit == 0)].min() > -1e-4
    assert (problem.nll(fit) <= problem.nll(z.clamp_min(0) if nonnegative else z)).all()
    warm = refit_codes(problem.y, problem.operator.atoms, fit + 1e-3 * z, **options)
    torch.testing.assert_close(problem.nll(warm), problem.nll(fit), atol=1e-5, rtol=0)


def test_the_gaussian_fit_is_least_squares():
    problem, z = random_problem("2-D", Gaussian(), "zero", n=1)
    fit = refit_codes(problem.y, problem.operator.atoms, z, offset=-0.5, nonnegative=False)
    size = z.numel()
    rows = problem.operator(torch.eye(size, dtype=z.dtype).view(size, *z.shape[1:])).flatten(1)
    support = z.flatten() != 0
    expected = torch.linalg.lstsq(rows[support].T, (problem.y + 0.5).flatten()[:, None]).solution[:, 0]
    torch.testing.assert_close(fit.flatten()[support], expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("likelihood", FAMILIES, ids=repr)
@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("boundary", ["zero", "circular"])
@pytest.mark.parametrize("nonnegative", [True, False])
def test_local_updates_choose_what_full_correlations_choose(likelihood, geometry, boundary, nonnegative):
    problem, _ = random_problem(geometry, likelihood, boundary, n=2)
    options = {"likelihood": likelihood, "offset": -0.5, "nonnegative": nonnegative, "boundary": boundary}
    codes = convolutional_pursuit(problem.y, problem.operator.atoms, n_nonzero=6, **options)
    z = problem.zeros()
    support = torch.zeros_like(z, dtype=torch.bool)
    for _ in range(6):
        correlation = -problem.gradient(z).flatten(1)
        chosen = (correlation if nonnegative else correlation.abs()).argmax(1, keepdim=True)
        support |= torch.zeros_like(support.flatten(1)).scatter(1, chosen, True).view(support.shape)
        z = refit_codes(problem.y, problem.operator.atoms, support, **options)
    torch.testing.assert_close(codes, z, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("likelihood", FAMILIES, ids=repr)
@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("boundary", ["zero", "circular"])
def test_missing_entries_count_for_nothing(likelihood, geometry, boundary):
    problem, z = random_problem(geometry, likelihood, boundary)
    seen = torch.rand(problem.y.shape, generator=torch.Generator().manual_seed(1)) > 0.2
    seen[..., 5:9] = False
    options = {"likelihood": likelihood, "offset": -0.5, "boundary": boundary, "mask": seen}
    atoms = problem.operator.atoms
    fit = refit_codes(problem.y, atoms, z != 0, nonnegative=False, **options)
    masked = Problem(Mask(seen, per_sample=True) @ problem.operator, likelihood, problem.y * seen, -0.5)
    score = likelihood.score(problem.operator(fit) - 0.5, problem.y) * seen
    assert problem.operator.adjoint(score)[z != 0].abs().max() < 1e-4  # stationary over what is observed

    wrong = torch.where(seen, problem.y, torch.nan)
    torch.testing.assert_close(refit_codes(wrong, atoms, z != 0, nonnegative=False, **options), fit)
    codes = convolutional_pursuit(wrong, atoms, n_nonzero=6, **options)
    torch.testing.assert_close(ConvolutionalPursuitCoder(6).encode(masked).values, codes)

    first = convolutional_pursuit(wrong, atoms, n_nonzero=1, nonnegative=False, **options)
    norms = _observed_norms(problem.operator, seen)
    score = problem.operator.adjoint(likelihood.score(problem.operator(0 * z) - 0.5, problem.y) * seen)
    placed = norms >= 0.1 * norms.amax((0, *range(2, norms.ndim)), keepdim=True).clamp_min(1)  # unit atoms
    best = (score.abs() / norms.clamp_min(1e-9).sqrt()).where(placed, 0).flatten(1).argmax(1)
    assert (first.flatten(1) != 0).nonzero()[:, 1].tolist() == best.tolist()


def _observed_norms(operator, seen):
    """Return the squared norms of the observed parts of atoms at each position."""
    squared = ConvDictionary(
        torch.as_tensor(operator.atoms) ** 2, signal_shape=tuple(seen.shape[2:]), boundary=operator.boundary
    )
    return squared.adjoint(seen.to(torch.float64))


def test_no_event_is_placed_where_hardly_anything_is_observed():
    hann = np.hanning(42)[1:-1]
    atoms = (hann / np.linalg.norm(hann))[None, None]
    y = np.ones((1, 1, 60))
    seen = np.zeros(y.shape, bool)
    seen[..., 19] = True  # at most 7 % of the energy of an atom
    assert not convolutional_pursuit(y, atoms, n_nonzero=3, mask=seen).any()
    seen[..., 20] = True
    assert convolutional_pursuit(y, atoms, n_nonzero=3, mask=seen).any()


@pytest.mark.parametrize(
    ("likelihood", "noise"), [(Gaussian(), 6.0), (Binomial(50), 16.0), (Poisson(), 40.0)], ids=repr
)
def test_planted_events_are_found_where_they_are(likelihood, noise):
    atoms = np.stack([np.hanning(32)[1:-1], np.sin(np.arange(30) * 0.6)])[:, None]
    atoms /= np.linalg.norm(atoms, axis=2, keepdims=True)
    planted = np.zeros((2, 2, 371))
    for sample, atom, position in ((0, 0, 40), (0, 1, 150), (0, 0, 300), (1, 1, 0), (1, 0, 370)):
        planted[sample, atom, position] = 20
    operator = ConvDictionary(torch.from_numpy(atoms), signal_shape=(400,))
    y = likelihood.sample(operator(torch.from_numpy(planted)) - 1, generator=torch.Generator().manual_seed(0))
    codes = convolutional_pursuit(
        y.numpy(),
        atoms,
        likelihood=likelihood,
        offset=-1.0,
        n_nonzero=10,
        tol=noise,
    )
    for sample, atom, position in np.argwhere(planted):
        near = codes[sample, atom, max(position - 2, 0) : position + 3]
        assert abs(near.sum() - 20) < 5
    assert (codes != 0).sum() == 5


def test_threads_do_not_change_bits():
    problem, _ = random_problem("1-D", Poisson(), "zero", n=20)
    threads = torch.get_num_threads()
    found = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            found.append(
                convolutional_pursuit(problem.y, problem.operator.atoms, n_nonzero=4, likelihood=Poisson())
            )
    finally:
        torch.set_num_threads(threads)
    assert found[0].any()
    assert (found[0] == found[1]).all()


def test_trials_and_offsets_may_differ_by_sample_and_types_follow_the_inputs():
    problem, _ = random_problem("1-D", Binomial(20), "zero")
    atoms = torch.as_tensor(problem.operator.atoms)
    trials, offset = torch.tensor([20, 30, 40]).view(3, 1, 1), torch.tensor([-1.0, 0.0, 1.0]).view(3, 1, 1)
    together = convolutional_pursuit(
        problem.y.float(), atoms.float(), n_nonzero=5, likelihood=Binomial(trials), offset=offset
    )
    assert together.dtype == torch.float32
    for sample, (m, mu) in enumerate(((20, -1.0), (30, 0.0), (40, 1.0))):
        y = problem.y[sample : sample + 1].float()
        dictionary = ConvDictionary(atoms.float(), signal_shape=tuple(y.shape[2:]))
        one = ConvolutionalPursuitCoder(5).encode(Problem(dictionary, Binomial(m), y, mu)).values
        np.testing.assert_allclose(one[0], together[sample], atol=1e-5)


def test_a_dark_image_has_no_event_and_a_bright_one_does_not_diverge():
    atoms = np.ones((1, 1, 3, 3)) / 3
    dark = np.zeros((1, 1, 12, 12))
    assert not convolutional_pursuit(dark, atoms, n_nonzero=5, likelihood=Poisson()).any()
    bright = dark.copy()
    bright[0, 0, 4:7, 4:7] = 1000
    codes = convolutional_pursuit(bright, atoms, n_nonzero=1, likelihood=Poisson())
    assert np.argwhere(codes).tolist() == [[0, 0, 4, 4]]
    np.testing.assert_allclose(codes.max(), 3 * np.log(1000), rtol=1e-6)


def test_a_fit_that_does_not_exist_is_warned_of_and_stays_finite():
    y = np.full((1, 1, 5), 7.0)  # all trials succeed
    with pytest.warns(ConvergenceWarning, match="max_iter = 3"):
        codes = refit_codes(y, np.ones((1, 1, 5)), np.ones((1, 1, 1)), likelihood=Binomial(7), max_iter=3)
    assert np.isfinite(codes).all()
    assert codes.max() > 3


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"y": np.full((1, 1, 9), -1.0)}, ValueError, "y: expected counts of at least 0"),
        ({"y": np.full((1, 1, 9), 0.5)}, ValueError, "y: expected whole numbers"),
        ({"y": np.full((1, 1, 9), np.nan)}, ValueError, "y: expected finite"),
        ({"y": np.ones((1, 1, 2))}, ValueError, "atoms: expected a kernel no longer than the signal"),
        ({"offset": np.zeros(4)}, ValueError, "offset: expected a shape that broadcasts"),
        ({"offset": np.nan}, ValueError, "offset: expected finite numbers"),
        ({"n_nonzero": 0}, ValueError, "n_nonzero: expected a positive integer"),
        ({"tol": -1.0}, ValueError, "tol: expected a finite number of at least 0"),
        ({"boundary": "mirror"}, ValueError, "boundary: expected"),
        ({"likelihood": object()}, IncompatibleError, "likelihood to be Gaussian, Binomial or Poisson"),
    ],
)
def test_bad_input_is_named(change, error, message):
    arguments = {
        "y": np.ones((1, 1, 9)),
        "atoms": np.ones((2, 1, 3)),
        "n_nonzero": 2,
        "likelihood": Poisson(),
    }
    arguments |= change
    with pytest.raises(error, match=message):
        convolutional_pursuit(arguments.pop("y"), arguments.pop("atoms"), **arguments)


def test_a_support_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"support: expected .* of shape \(1, 2, 7\)"):
        refit_codes(np.ones((1, 1, 9)), np.ones((2, 1, 3)), np.ones((1, 2, 9)))
