import math

import pytest
import torch

from calepin.likelihoods import Gaussian
from calepin.operators import (
    MultiCoilMRI,
    column_mask,
    density_weights,
    estimate_sensitivities,
    root_sum_of_squares,
    variable_density_mask,
)
from calepin.operators.fourier import centred_fft, centred_ifft
from calepin.problem import Problem
from calepin.testing import check_operator

SIZE = (12, 15)


def randn(*shape, seed=0):
    return torch.randn(shape, dtype=torch.complex128, generator=torch.Generator().manual_seed(seed))


def smooth_coils(n_coils=4, size=SIZE):
    """Sensitivities that vary slowly, with a unit sum of squares."""
    rows, columns = (torch.linspace(-1, 1, length, dtype=torch.float64) for length in size)
    coils = [
        torch.exp(-((rows[:, None] - math.sin(a)) ** 2 + (columns - math.cos(a)) ** 2) / 2 + 1j * a)
        for a in torch.linspace(0, 2 * math.pi, n_coils + 1)[:-1].tolist()
    ]
    stacked = torch.stack(coils).to(torch.complex128)
    return stacked / root_sum_of_squares(stacked[None])[0]


@pytest.mark.parametrize("coils", ["given", "unknown"])
def test_multi_coil_mri_conforms(coils):
    mask = variable_density_mask(SIZE, acceleration=3, n_center=3, seed=1)
    operator = (
        MultiCoilMRI(mask, sensitivities=randn(3, *SIZE))
        if coils == "given"
        else MultiCoilMRI(mask, n_coils=2)
    )
    check_operator(operator, dtype=torch.complex128)


def test_the_transform_is_orthonormal_and_centred():
    x = randn(2, 1, *SIZE)
    assert torch.allclose(centred_ifft(centred_fft(x)), x)
    assert torch.linalg.vector_norm(centred_fft(x)) == pytest.approx(float(torch.linalg.vector_norm(x)))
    flat = centred_fft(torch.ones(1, 1, *SIZE, dtype=torch.complex128))
    assert flat.abs().flatten().argmax() == SIZE[0] // 2 * SIZE[1] + SIZE[1] // 2


def test_with_all_samples_and_true_sensitivities_the_adjoint_inverts():
    coils = smooth_coils()
    operator = MultiCoilMRI(torch.ones(SIZE, dtype=torch.bool), sensitivities=coils)
    x = randn(2, 1, *SIZE)
    assert torch.allclose(operator.adjoint(operator(x)), x)
    assert operator.norm_squared() == pytest.approx(1, rel=1e-9)


def test_a_problem_takes_complex_k_space():
    operator = MultiCoilMRI(column_mask(SIZE, acceleration=3), sensitivities=smooth_coils())
    x = randn(2, 1, *SIZE)
    problem = Problem(operator, Gaussian(), operator(x))
    assert float(problem.nll(x).max()) < 1e-20
    assert float(problem.nll(problem.zeros()).min()) > 0


def test_low_resolution_tells_the_sensitivities():
    size = (64, 48)
    coils = smooth_coils(size=size)
    rows, columns = (torch.linspace(-1, 1, length, dtype=torch.float64) for length in size)
    head = ((rows[:, None] / 0.8) ** 2 + (columns / 0.7) ** 2 < 1).to(torch.complex128)
    found = estimate_sensitivities(centred_fft(coils * head), n_center=20)
    inside = (rows[:, None] / 0.6) ** 2 + (columns / 0.5) ** 2 < 1
    # both are known up to a phase, the same for all coils
    agreement = (found.conj() * coils).sum(0).abs()[inside]
    assert float(agreement.min()) > 0.97
    assert float(root_sum_of_squares(found[None]).max()) <= 1


@pytest.mark.parametrize("acceleration", [1, 2.5, 4, 8])
def test_masks_hold_just_the_samples_asked_for_and_the_middle(acceleration):
    height, width = 40, 56
    columns = column_mask((height, width), acceleration=acceleration, n_center=5, seed=3)
    assert int(columns[0].sum()) == round(width / acceleration)
    assert (columns == columns[0]).all()
    assert columns[:, 26:31].all()
    single = variable_density_mask((height, width), acceleration=acceleration, n_center=10, seed=3)
    assert int(single.sum()) == round(height * width / acceleration)
    assert single[15:25, 23:33].all()


def test_samples_are_denser_near_the_middle():
    mask = variable_density_mask((100, 100), acceleration=5, n_center=0, power=3).double()
    near, far = mask[30:70, 30:70].mean(), (mask.sum() - mask[30:70, 30:70].sum()) / 8400
    assert near > 3 * far


def test_a_seed_makes_one_mask():
    masks = [variable_density_mask((20, 20), acceleration=4, n_center=2, seed=s) for s in (0, 0, 1)]
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


FULL = torch.ones(SIZE, dtype=torch.bool)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MultiCoilMRI(FULL.double()), "acquired: expected a boolean tensor"),
        (lambda: MultiCoilMRI(FULL[0]), "acquired: expected a boolean tensor of shape"),
        (lambda: MultiCoilMRI(~FULL), "acquired: expected at least one sample, got none"),
        (
            lambda: MultiCoilMRI(FULL, sensitivities=randn(3, 4, 4)),
            "sensitivities: expected a complex tensor",
        ),
        (lambda: MultiCoilMRI(FULL, sensitivities=randn(3, *SIZE).real), "sensitivities: expected a complex"),
        (
            lambda: MultiCoilMRI(FULL, sensitivities=randn(3, *SIZE) * math.nan),
            "sensitivities: expected finite values",
        ),
        (lambda: MultiCoilMRI(FULL, sensitivities=randn(3, *SIZE), n_coils=3), "n_coils: expected None"),
        (lambda: MultiCoilMRI(FULL).adjoint(torch.ones(1, 1, *SIZE)), "y: MultiCoilMRI expected complex"),
        (lambda: column_mask((8, 8), acceleration=0.5), "acceleration: expected a number from 1 to 8"),
        (lambda: column_mask((8, 8), acceleration=4, n_center=3), "n_center: expected 0 to the 2 acquired"),
        (lambda: column_mask((8,), acceleration=4), "shape: expected"),
        (lambda: variable_density_mask((8, 8), acceleration=8, n_center=5), "n_center: expected a middle"),
        (lambda: variable_density_mask((8, 8), acceleration=2, n_center=2, power=-1), "power: expected"),
        (lambda: estimate_sensitivities(randn(2, 8, 8), n_center=9), "n_center: expected 1 to"),
        (lambda: estimate_sensitivities(randn(2, 8, 8).real, n_center=4), "kspace: expected a complex"),
        (lambda: estimate_sensitivities(0 * randn(2, 8, 8), n_center=4), "kspace: expected finite samples"),
    ],
)
def test_what_cannot_be_measured_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_density_weights_rise_from_the_middle_to_the_corner():
    weights = density_weights(SIZE)
    middle, corner = weights[SIZE[0] // 2, SIZE[1] // 2], weights[0, 0]
    assert weights.argmin() == SIZE[0] // 2 * SIZE[1] + SIZE[1] // 2
    assert float(corner) == 1
    assert float(corner / middle) == pytest.approx(math.sqrt(1.02 / 0.02), rel=1e-6)
    assert bool((density_weights(SIZE, power=0) == 1).all())
    with pytest.raises(ValueError, match="power: expected a finite number of at least 0, got -1"):
        density_weights(SIZE, power=-1)
