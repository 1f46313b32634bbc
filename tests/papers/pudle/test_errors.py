import numpy as np
import pytest
import torch

from calepin.datasets.simulate import simulate_sparse
from calepin.learning import dictionary_gradient
from calepin.penalties import L1
from calepin.solvers.coders.encode import sparse_encode
from calepin_papers.pudle import errors as errors_room
from calepin_papers.pudle.errors import decoder_gradient, gradient_errors, unfolding_errors

LAYERS = (120, 180, 240)


@pytest.fixture(scope="module")
def data():
    drawn = simulate_sparse(20, 30, 40, n_nonzero=2, random_state=np.random.default_rng(3))
    shift = np.random.default_rng(8).standard_normal(drawn.atoms.shape)
    return drawn, drawn.atoms + 0.1 * shift / np.sqrt(30)


def test_codes_and_jacobians_converge_linearly_the_jacobian_more_slowly(data):
    drawn, atoms = data
    errors = unfolding_errors(drawn.X[:3], atoms, penalty=L1(0.1), layers=LAYERS, step_size=0.15)
    assert errors.code.shape == errors.jacobian.shape == errors.support.shape == (3, 3)
    assert errors.support[-1].all()
    for values in (errors.code, errors.jacobian):
        assert (values[1:] < 0.2 * values[:-1]).all()
        assert (values > 1e-13).all()
    # t rho^t beside rho^t
    assert (errors.jacobian[2] / errors.jacobian[0] > errors.code[2] / errors.code[0]).all()


def test_jacobians_are_those_of_torch(data):
    drawn, atoms = data
    y, layers = drawn.X[:1], (7, 800)

    def code(atoms, n_iter):
        z = torch.zeros(1, len(atoms), dtype=torch.float64)
        for _ in range(n_iter):
            z = z - 0.15 * (z @ atoms - torch.as_tensor(y)) @ atoms.T
            z = torch.nn.functional.softshrink(z, 0.015)
        return z

    leaf = torch.as_tensor(atoms)
    early, late = (torch.autograd.functional.jacobian(lambda a, t=t: code(a, t), leaf) for t in layers)
    errors = unfolding_errors(y, atoms, penalty=L1(0.1), layers=layers, step_size=0.15)
    np.testing.assert_allclose(errors.jacobian[0, 0], float((early - late).norm()), rtol=1e-7)
    assert errors.jacobian[1, 0] < 1e-8


def test_the_rules_reach_what_the_theory_says(data):
    drawn, atoms = data
    best = decoder_gradient(drawn.X, sparse_encode(drawn.X, atoms, alpha=0.1, tol=1e-12), atoms)
    errors = gradient_errors(drawn.X, atoms, best, penalty=L1(0.1), layers=LAYERS, step_size=0.15)
    assert errors["ae-lasso"][-1] < 1e-2 * errors["dec"][-1] < 1e-5
    assert errors["ae-ls"][-1] > 1e3 * errors["dec"][-1]


@pytest.mark.parametrize("part", [7, 1000])  # samples at a time
def test_an_error_is_the_distance_of_the_gradient(data, part, monkeypatch):
    monkeypatch.setattr(errors_room, "PART", part)
    drawn, atoms = data
    wanted = decoder_gradient(drawn.X, drawn.codes, atoms)
    settings = {"penalty": L1(0.1), "step_size": 0.1, "solver": "fista"}
    errors = gradient_errors(drawn.X, atoms, wanted, layers=[5], **settings)
    found = dictionary_gradient(drawn.X, atoms, n_unfold=5, gradient="ae-ls", **settings)
    assert errors["ae-ls"][0] == pytest.approx(np.linalg.norm(found - wanted))
    assert set(errors) == {"dec", "ae-lasso", "ae-ls"}


def test_a_reference_of_another_shape_is_refused(data):
    drawn, atoms = data
    with pytest.raises(ValueError, match="reference: expected the shape of atoms"):
        gradient_errors(drawn.X, atoms, atoms[:3], penalty=L1(0.1), layers=[3])
