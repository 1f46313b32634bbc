import numpy as np
import pytest
import torch

from calepin.core.errors import IncompatibleError
from calepin.learning import dictionary_gradient
from calepin.penalties import L1, HardThreshold, NonNegativeL1
from calepin.solvers import sparse_encode

STEP = 0.1
GRADIENTS = ("dec", "ae-lasso", "ae-ls")
PENALTIES = [L1(0.2), NonNegativeL1(0.2), HardThreshold(0.3)]


def planted(n=12, m=20, p=30, s=3, shift=0.1):
    """Samples of a planted dictionary, and atoms near it."""
    rng = np.random.default_rng(4)
    truth = rng.standard_normal((p, m)) / np.sqrt(m)
    truth /= np.linalg.norm(truth, axis=1, keepdims=True)
    codes = np.zeros((n, p))
    for row in codes:
        row[rng.choice(p, s, replace=False)] = rng.uniform(1, 2, s)
    atoms = truth + shift * rng.standard_normal((p, m)) / np.sqrt(m)
    return codes @ truth, atoms


def iterate(y, atoms, penalty, n_unfold, solver):
    """Codes by the textbook recursion, written out in NumPy, apart from the library."""
    z = v = np.zeros((len(y), len(atoms)))
    t = 1.0
    for _ in range(n_unfold):
        moved = v - STEP * (v @ atoms - y) @ atoms.T
        if isinstance(penalty, HardThreshold):
            after = moved * (abs(moved) > penalty.threshold)
        elif isinstance(penalty, NonNegativeL1):
            after = np.maximum(moved - STEP * penalty.alpha, 0)
        else:
            after = np.sign(moved) * np.maximum(abs(moved) - STEP * penalty.alpha, 0)
        t_next = (1 + np.sqrt(1 + 4 * t * t)) / 2
        v = after if solver == "ista" else after + (t - 1) / t_next * (after - z)
        z, t = after, t_next
    return z


def loss(y, atoms, penalty, n_unfold, gradient, solver):
    z = iterate(y, atoms, penalty, n_unfold, solver)
    total = 0.5 * ((y - z @ atoms) ** 2).sum(1)
    if gradient == "ae-lasso" and not isinstance(penalty, HardThreshold):
        total = total + penalty.alpha * abs(z).sum(1)
    return total.mean()


@pytest.mark.parametrize("solver", ["ista", "fista"])
@pytest.mark.parametrize("penalty", PENALTIES, ids=lambda p: type(p).__name__)
def test_dec_is_its_closed_form(penalty, solver):
    y, atoms = planted()
    z = iterate(y, atoms, penalty, 15, solver)
    found = dictionary_gradient(
        y, atoms, penalty=penalty, n_unfold=15, step_size=STEP, gradient="dec", solver=solver
    )
    np.testing.assert_allclose(found, z.T @ (z @ atoms - y) / len(y), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("solver", ["ista", "fista"])
@pytest.mark.parametrize("gradient", ["ae-lasso", "ae-ls"])
@pytest.mark.parametrize("penalty", PENALTIES, ids=lambda p: type(p).__name__)
def test_unrolled_gradients_are_those_of_finite_differences(penalty, gradient, solver):
    y, atoms = planted()
    found = dictionary_gradient(
        y, atoms, penalty=penalty, n_unfold=15, step_size=STEP, gradient=gradient, solver=solver
    )
    rng = np.random.default_rng(1)
    for _ in range(3):
        move = rng.standard_normal(atoms.shape)
        ends = [loss(y, atoms + h * move, penalty, 15, gradient, solver) for h in (1e-6, -1e-6)]
        np.testing.assert_allclose((found * move).sum(), (ends[0] - ends[1]) / 2e-6, rtol=1e-6)


def test_the_three_differ():
    y, atoms = planted()
    found = [
        dictionary_gradient(y, atoms, penalty=L1(0.2), n_unfold=15, step_size=STEP, gradient=gradient)
        for gradient in GRADIENTS
    ]
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert np.linalg.norm(found[i] - found[j]) > 0.05 * np.linalg.norm(found[i])


def test_a_hard_threshold_adds_no_term_to_the_loss():
    y, atoms = planted()
    settings = {"penalty": HardThreshold(0.3), "n_unfold": 10, "step_size": STEP}
    lasso, ls = (
        dictionary_gradient(y, atoms, gradient=gradient, **settings) for gradient in ("ae-lasso", "ae-ls")
    )
    np.testing.assert_array_equal(lasso, ls)


def test_implicit_gradients_are_the_limits():
    y, atoms = planted()
    settings = {"penalty": L1(0.2), "step_size": STEP}
    for gradient in GRADIENTS:
        limit = dictionary_gradient(y, atoms, n_unfold=2000, gradient=gradient, **settings)
        found = dictionary_gradient(
            y, atoms, n_unfold=1, gradient=gradient, differentiate="implicit", **settings
        )
        assert np.linalg.norm(found - limit) < 1e-6 * np.linalg.norm(limit)
    # the code minimises the loss of ae-lasso: only the decoder's part of its gradient is left
    exact = sparse_encode(y, atoms, alpha=0.2)
    for gradient in ("dec", "ae-lasso"):
        found = dictionary_gradient(
            y, atoms, n_unfold=1, gradient=gradient, differentiate="implicit", **settings
        )
        np.testing.assert_allclose(found, exact.T @ (exact @ atoms - y) / len(y), atol=1e-8)


def test_back_propagation_doubles_the_rate_of_convergence():
    # Tolooshams and Ba, 2022, theorem 3.3: rho^t for dec, t rho^2t for ae-lasso
    y, atoms = planted(n=30, m=50, p=60)
    settings = {"penalty": L1(0.2), "step_size": STEP}
    best = dictionary_gradient(y, atoms, n_unfold=1, gradient="dec", differentiate="implicit", **settings)
    layers = np.arange(80, 141, 10)
    slopes = {}
    for gradient in ("dec", "ae-lasso"):
        errors = [
            np.linalg.norm(
                dictionary_gradient(y, atoms, n_unfold=int(t), gradient=gradient, **settings) - best
            )
            for t in layers
        ]
        assert min(errors) > 1e-13
        slopes[gradient] = np.polyfit(layers, np.log(errors), 1)[0]
    assert slopes["dec"] < 0
    assert 1.7 < slopes["ae-lasso"] / slopes["dec"] < 2.2


def test_fewer_iterations_and_fewer_kept_ones():
    y, atoms = planted()
    settings = {"penalty": L1(0.2), "n_unfold": 30, "step_size": STEP, "gradient": "ae-ls"}
    whole = dictionary_gradient(y, atoms, **settings)
    kept = dictionary_gradient(y, atoms, checkpoint_every=6, **settings)
    np.testing.assert_array_equal(kept, whole)
    every = dictionary_gradient(y, atoms, differentiate="last-k", last_k=30, **settings)
    np.testing.assert_array_equal(every, whole)
    few = dictionary_gradient(y, atoms, differentiate="last-k", last_k=5, **settings)
    assert 0 < np.linalg.norm(few - whole) < np.linalg.norm(whole)


def test_decay_takes_the_bias_away():
    y, atoms = planted(shift=0.0)
    settings = {"penalty": L1(0.2), "n_unfold": 300, "step_size": STEP, "gradient": "ae-ls"}
    biased, unbiased = (
        np.linalg.norm(dictionary_gradient(y, atoms, decay=decay, **settings)) for decay in (1.0, 0.97)
    )
    assert unbiased < 0.05 * biased


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_kind_and_precision_of_the_atoms_are_kept_and_nothing_is_changed(dtype):
    y, atoms = (values.astype(dtype) for values in planted())
    copies = y.copy(), atoms.copy()
    found = dictionary_gradient(y, atoms, penalty=L1(0.2), n_unfold=5)
    assert isinstance(found, np.ndarray)
    assert found.dtype == dtype
    tensors = torch.from_numpy(y), torch.from_numpy(atoms).requires_grad_()
    with torch.no_grad():
        same = dictionary_gradient(*tensors, penalty=L1(0.2), n_unfold=5)
    assert torch.equal(same, torch.from_numpy(found))
    assert tensors[1].grad is None
    np.testing.assert_array_equal(y, copies[0])
    np.testing.assert_array_equal(atoms, copies[1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gradient": "ae"}, "gradient: expected one of"),
        ({"solver": "adam"}, "solver: expected one of"),
        ({"differentiate": "none"}, "differentiate: expected one of"),
        ({"n_unfold": 0}, "n_iter: expected"),
        ({"step_size": -1.0}, "step_size: expected"),
        ({"step_size": 5.0, "n_unfold": 50}, "step_size: expected less than 2 / L"),
        ({"y": np.zeros((3, 4))}, "y: Dense expected shape"),
        ({"y": np.zeros(20)}, r"y: expected real numbers of shape \(n, n_features\)"),
        ({"y": np.full((3, 20), np.nan)}, "y: expected finite values"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    y, atoms = planted()
    settings = {"y": y, "penalty": L1(0.2), "n_unfold": 5} | arguments
    with pytest.raises(ValueError, match=message):
        dictionary_gradient(settings.pop("y"), atoms, **settings)


def test_a_hard_threshold_has_no_implicit_gradient():
    y, atoms = planted()
    with pytest.raises(IncompatibleError, match="needs an L1 or NonNegativeL1 penalty, got HardThreshold"):
        dictionary_gradient(y, atoms, penalty=HardThreshold(0.1), n_unfold=3, differentiate="implicit")
