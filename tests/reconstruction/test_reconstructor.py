import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

import calepin
from calepin.likelihoods import Binomial, Poisson
from calepin.networks import ComplexPair, DeepDecoder
from calepin.operators import GaussianSketch, Identity, Mask, SubsampledHadamard
from calepin.reconstruction.reconstructor import _on_device, default_network
from calepin.solvers import LBFGS

OPERATOR = SubsampledHadamard((1, 16, 16), 100)


def images(n=2):
    place = np.linspace(0, 3, 16)
    waves = [0.5 + 0.2 * np.sin(place + i) + 0.2 * np.cos((i + 1) * place)[:, None] for i in range(n)]
    return np.stack(waves)[:, None].astype(np.float32)


def measured(x):
    return OPERATOR(torch.from_numpy(x)).numpy()


def relative_error(x, truth):
    return float(((x - truth) ** 2).sum() / (truth**2).sum())


def test_arrays_in_arrays_out():
    x = images()
    reconstructor = calepin.UntrainedReconstructor(OPERATOR, tol=0.02, random_state=0)
    found = reconstructor.reconstruct(measured(x))
    assert isinstance(found, np.ndarray)
    assert found.dtype == np.float32
    assert relative_error(found, x) < 0.02
    assert reconstructor.converged_.all()
    assert reconstructor.n_iter_ == reconstructor.solution_.n_iter


def test_one_observation_is_a_batch_of_one():
    y = measured(images(1))
    reconstructor = calepin.UntrainedReconstructor(OPERATOR, tol=0.05, random_state=0)
    alone = reconstructor.reconstruct(y[0])
    assert alone.shape == (1, 16, 16)
    np.testing.assert_array_equal(alone, reconstructor.reconstruct(y)[0])
    assert isinstance(reconstructor.reconstruct(torch.from_numpy(y)), torch.Tensor)


def test_the_seed_decides_everything():
    y = measured(images(1))
    settings = {"tol": 0.1, "n_starts": 2}
    one, again, other = (
        calepin.UntrainedReconstructor(OPERATOR, random_state=seed, **settings).reconstruct(y)
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


def test_complex_measurements_give_complex_signals():
    x = images(1) * np.exp(1j * images(1)).astype(np.complex64)
    operator = Mask(torch.rand(1, 16, 16, generator=torch.Generator().manual_seed(0)) < 0.6)
    y = operator(torch.from_numpy(x)).numpy()
    found = calepin.UntrainedReconstructor(operator, tol=0.03, random_state=0).reconstruct(y)
    assert found.dtype == np.complex64
    assert np.linalg.norm(found - x) < 0.2 * np.linalg.norm(x)


def test_settings_are_scikit_learns():
    network = DeepDecoder((16, 16), channels=8, depth=2, in_size=4)
    reconstructor = calepin.UntrainedReconstructor(OPERATOR, network=network, optimizer=LBFGS(), max_iter=3)
    twin = clone(reconstructor)
    assert twin.get_params()["max_iter"] == 3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        assert twin.reconstruct(measured(images())).shape == (2, 1, 16, 16)
    assert twin.network_.n_parameters == network.n_parameters


def test_not_converging_warns():
    with pytest.warns(ConvergenceWarning, match="have not converged after 2"):
        calepin.UntrainedReconstructor(OPERATOR, max_iter=2, random_state=0).reconstruct(measured(images()))


@pytest.mark.parametrize(
    ("settings", "y", "message"),
    [
        ({}, np.zeros((2, 100), np.float32), "y: expected measurements of a signal"),
        ({}, np.ones((2, 99), np.float32), "y: SubsampledHadamard expected shape"),
        ({}, np.array(["a"]), "y: expected numbers"),
        ({"max_iter": 2.5}, np.ones((1, 100), np.float32), "max_iter: expected a positive integer"),
    ],
)
def test_bad_input_is_named(settings, y, message):
    with pytest.raises(ValueError, match=message):
        calepin.UntrainedReconstructor(OPERATOR, **settings).reconstruct(y)


@pytest.mark.parametrize(("dtype", "first"), [(torch.float32, (32, 20)), (torch.complex64, (16, 16))])
def test_the_default_network_begins_coarse_for_k_space(dtype, first):
    operator = Mask(torch.ones(1, 256, 160, dtype=torch.bool))
    network = default_network(operator, torch.ones((1, 1), dtype=dtype))
    decoder = network.network if isinstance(network, ComplexPair) else network
    assert isinstance(decoder, DeepDecoder)
    assert decoder.sizes[0] == first


def test_signals_without_a_default_network_are_named():
    operator = GaussianSketch((40,), 20)
    with pytest.raises(ValueError, match="network: expected one for signals of shape"):
        calepin.UntrainedReconstructor(operator).reconstruct(np.ones((1, 20), np.float32))


def test_there_is_nothing_to_fit():
    assert not hasattr(calepin.UntrainedReconstructor(OPERATOR), "fit")


def test_what_the_user_gave_stays_where_it_is():
    network = DeepDecoder((16, 16), channels=8, depth=2, in_size=4)
    operator = SubsampledHadamard((1, 16, 16), 100)
    given = [*operator.buffers(), *network.buffers(), *network.parameters()]
    places = [tensor.data_ptr() for tensor in given]
    reconstructor = calepin.UntrainedReconstructor(operator, network=network, max_iter=1, device="cpu")
    with pytest.warns(ConvergenceWarning):
        reconstructor.reconstruct(measured(images()))
    assert reconstructor.operator is operator
    assert reconstructor.network is network
    after = [*operator.buffers(), *network.buffers(), *network.parameters()]
    assert [tensor.data_ptr() for tensor in after] == places


def test_on_another_device_a_copy_is_used():
    operator = SubsampledHadamard((1, 16, 16), 100)
    assert _on_device(operator, torch.device("cpu")) is operator
    moved = _on_device(operator, torch.device("meta"))
    assert moved is not operator
    assert {tensor.device.type for tensor in moved.buffers()} == {"meta"}
    assert {tensor.device.type for tensor in operator.buffers()} == {"cpu"}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_an_operator_in_another_precision_is_copied():
    operator = GaussianSketch((1, 16, 16), 100)
    x = calepin.UntrainedReconstructor(operator, max_iter=1).reconstruct(
        operator(torch.from_numpy(images())).double()
    )
    assert x.dtype == torch.float64
    assert operator.matrix.dtype == torch.float32


@pytest.mark.parametrize(("likelihood", "scale"), [(Poisson(), 3.0), (Binomial(20), 4.0)])
def test_likelihoods_are_objects(likelihood, scale):
    eta = torch.from_numpy(scale * images(1)) - 1
    y = likelihood.sample(eta, generator=torch.Generator().manual_seed(0))
    network = DeepDecoder((16, 16), channels=8, depth=2, in_size=4, output="none")
    reconstructor = calepin.UntrainedReconstructor(
        Identity((1, 16, 16)), network=network, likelihood=likelihood, max_iter=150, random_state=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = reconstructor.reconstruct(y)
    mean = likelihood.mean(eta)
    assert (likelihood.mean(found) - mean).square().mean() < 0.6 * (y - mean).square().mean()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.int64])
def test_other_dtypes_are_computed_in_single_precision(dtype):
    operator = SubsampledHadamard((1, 16, 16), 96)
    y = (8 * torch.rand(1, 96, generator=torch.Generator().manual_seed(0))).to(dtype)
    make = lambda: calepin.UntrainedReconstructor(operator, max_iter=3, random_state=0)  # noqa: E731
    assert torch.equal(make().reconstruct(y), make().reconstruct(y.float()))
    graph = y.float().requires_grad_()
    assert torch.equal(make().reconstruct(graph), make().reconstruct(y.float()))
