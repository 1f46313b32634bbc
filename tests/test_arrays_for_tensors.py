"""Where tensors are expected, a NumPy array gets one line that names the argument and the conversion."""

import numpy as np
import pytest
import torch
from torch import nn

from calepin import Problem, solve
from calepin.generators import (
    GroupSparse,
    KSparse,
    LatentProblem,
    PolynomialSine,
    ReLUNet,
    Sine,
    check_generator,
    linearise,
    truncate,
)
from calepin.imaging import DenoiserSettings, train_denoiser
from calepin.learning import LeastSquares, algorithm1_step, preconditioner
from calepin.likelihoods import Binomial, Gaussian, Poisson
from calepin.networks import (
    VAE,
    DeepDecoder,
    DeepImagePrior,
    Jacobian,
    LinearGenerator,
    TwoLayerGenerator,
    UnfoldedAutoencoder,
)
from calepin.networks.two_layer import box_kernel
from calepin.operators import (
    ConvDictionary,
    Dense,
    Diagonal,
    Identity,
    Mask,
    MultiCoilMRI,
    centred_fft,
    centred_ifft,
    estimate_sensitivities,
    root_sum_of_squares,
)
from calepin.penalties import L1, GroupL1, HardThreshold, NonNegativeL1
from calepin.reconstruction import data_consistent, fit_untrained, jacobian_spectrum, weighted
from calepin.solvers import FISTA, decode, dense_problem

A, T = np.ones((4, 3)), torch.ones(4, 3)
EYE = torch.eye(3)
PROBLEM = Problem(Dense(EYE), Gaussian(), T)
LATENT = LatentProblem(Problem(Dense(torch.ones(6, 3)), Gaussian(), T), PolynomialSine(2))
NETWORK = LinearGenerator(torch.ones(3, 2))
TWO = TwoLayerGenerator(8, kernel=box_kernel(3), channels=2)
AUTOENCODER = UnfoldedAutoencoder(torch.ones(1, 1, 3), L1(0.1), n_unfold=2)
SIGNAL = np.ones((1, 1, 8))
MASK = torch.ones(4, 4, dtype=torch.bool)

CALLS = {
    "y of a problem": ("y", lambda: Problem(Dense(EYE), Gaussian(), A)),
    "offset of a problem": ("offset", lambda: Problem(Dense(EYE), Gaussian(), T, A)),
    "eta": ("z", lambda: PROBLEM.eta(A)),
    "nll": ("z", lambda: PROBLEM.nll(A)),
    "gradient": ("z", lambda: PROBLEM.gradient(A)),
    "dense_problem": ("y", lambda: dense_problem(A, EYE)),
    "dense_problem masked": ("y", lambda: dense_problem(A, EYE, T > 0)),
    "dense_problem atoms": ("atoms", lambda: dense_problem(T, np.eye(3))),
    "dense_problem mask": ("observed", lambda: dense_problem(T, EYE, A > 0)),
    "solve": ("z0", lambda: solve(PROBLEM, FISTA(L1(0.1)), n_iter=2, z0=A)),
    "decode": ("z0", lambda: decode(LATENT, z0=A)),
    "latent eta": ("z", lambda: LATENT.eta(A)),
    "latent objective": ("z", lambda: LATENT.objective(A)),
    "latent gradient": ("z", lambda: LATENT.gradient(A)),
    "latent evaluate": ("z", lambda: LATENT.evaluate(A)),
    "latent project": ("z", lambda: LATENT.project(A)),
    "Dense": ("atoms", lambda: Dense(np.eye(3))),
    "Dense forward": ("x", lambda: Dense(EYE)(A)),
    "Dense adjoint": ("y", lambda: Dense(EYE).adjoint(A)),
    "Compose": ("x", lambda: (Identity((3,)) @ Dense(EYE))(A)),
    "Mask": ("observed", lambda: Mask(np.ones(3, bool))),
    "Diagonal": ("weights", lambda: Diagonal(np.ones(3))),
    "Conv": ("atoms", lambda: ConvDictionary(SIGNAL, signal_shape=(20,))),
    "MRI": ("acquired", lambda: MultiCoilMRI(MASK.numpy())),
    "MRI coils": ("sensitivities", lambda: MultiCoilMRI(MASK, sensitivities=np.ones((2, 4, 4), complex))),
    "fft": ("x", lambda: centred_fft(np.ones((4, 4)))),
    "ifft": ("y", lambda: centred_ifft(np.ones((4, 4)))),
    "sensitivities": ("kspace", lambda: estimate_sensitivities(np.ones((1, 2, 8, 8)), n_center=4)),
    "root": ("images", lambda: root_sum_of_squares(np.ones((1, 2, 8, 8)))),
    "weight of L1": ("alpha", lambda: L1(np.ones((30, 30)))),
    "weight of HardThreshold": ("threshold", lambda: HardThreshold(np.ones(3))),
    "trials": ("trials", lambda: Binomial(np.ones((4, 1)))),
    "linearise": ("z", lambda: linearise(PolynomialSine(3), A)),
    "Truncated": ("z", lambda: truncate(nn.Sequential(nn.Linear(3, 2), nn.ReLU()), 1)(A.astype(np.float32))),
    "check_generator": ("like", lambda: check_generator(PolynomialSine(3), like=A)),
    "atoms of a rule": ("atoms", lambda: LeastSquares(PolynomialSine(1)).decode(np.eye(3), T)),
    "y of a rule": ("y", lambda: LeastSquares(PolynomialSine(1)).decode(EYE, A)),
    "algorithm1_step": ("coefficients", lambda: algorithm1_step(EYE, A, T, EYE)),
    "preconditioner": ("like", lambda: preconditioner(PolynomialSine(1), like=A)),
    "LinearGenerator": ("matrix", lambda: LinearGenerator(A)),
    "untrained forward": ("weights", lambda: NETWORK(np.ones((1, 2)))),
    "kernel": ("kernel", lambda: TwoLayerGenerator(8, kernel=np.ones(3), channels=2)),
    "gram": ("weights", lambda: TWO.jacobian_gram(np.ones(16))),
    "scale": ("y", lambda: TWO.initial_scale(np.ones((1, 8)))),
    "jacobian": ("weights", lambda: Jacobian(NETWORK, np.ones(2))),
    "spectrum": ("weights", lambda: jacobian_spectrum(NETWORK, np.ones(2))),
    "autoencoder": ("y", lambda: AUTOENCODER(SIGNAL)),
    "autoencoder encode": ("y", lambda: AUTOENCODER.encode(SIGNAL)),
    "autoencoder decode": ("codes", lambda: AUTOENCODER.decode(SIGNAL, signal_shape=(10,))),
    "autoencoder offset": ("offset", lambda: AUTOENCODER(torch.ones(1, 1, 8), offset=SIGNAL)),
    "autoencoder atoms": ("atoms", lambda: UnfoldedAutoencoder(SIGNAL, L1(0.1))),
    "VAE": ("x", lambda: VAE(2, 3, 3)(A)),
    "fit_untrained": ("y", lambda: fit_untrained(NETWORK, Identity((3,)), A)),
    "weighted": ("y", lambda: weighted(Identity((3,)), A, torch.ones(3))),
    "weights": ("weights", lambda: weighted(Identity((3,)), T, np.ones(3))),
    "consistent x": ("x", lambda: data_consistent(Identity((3,)), A, T)),
    "consistent y": ("y", lambda: data_consistent(Identity((3,)), T, A)),
    "train_denoiser": ("images", lambda: train_denoiser(DenoiserSettings(), np.ones((2, 1, 40, 40)))),
}
for penalty in (L1(0.1), NonNegativeL1(0.1), HardThreshold(0.1), GroupL1(0.1, 3)):
    name = type(penalty).__name__
    CALLS[f"value of {name}"] = ("z", lambda p=penalty: p.value(A))
    CALLS[f"prox of {name}"] = ("v", lambda p=penalty: p.prox(A, 0.5))
for family in (Gaussian(), Binomial(), Poisson()):
    name = type(family).__name__
    CALLS[f"check of {name}"] = ("y", lambda f=family: f.check(A))
    for method in ("mean", "sample"):
        CALLS[f"{method} of {name}"] = ("eta", lambda f=family, m=method: getattr(f, m)(A))
    for method in ("nll", "score"):
        CALLS[f"eta in {method} of {name}"] = ("eta", lambda f=family, m=method: getattr(f, m)(A, T))
        CALLS[f"y in {method} of {name}"] = ("y", lambda f=family, m=method: getattr(f, m)(T, A))
for generator in (PolynomialSine(3), GroupSparse(3, 5), KSparse(1, 5), ReLUNet((3, 5)), Sine(3, 5)):
    CALLS[f"latents of {type(generator).__name__}"] = ("z", lambda g=generator: g(A))
for network in (NETWORK, TWO, DeepDecoder((16, 16), channels=4, depth=2), DeepImagePrior((32, 32), depth=2)):
    CALLS[f"like of {type(network).__name__}"] = ("like", lambda n=network: n.initial(1, like=A))


@pytest.mark.parametrize("name", CALLS)
def test_an_array_is_named_with_its_conversion(name):
    argument, call = CALLS[name]
    expected = (
        rf"^{argument}: expected a torch.Tensor.*, got numpy.ndarray.*; torch.from_numpy converts an array$"
    )
    with pytest.raises(TypeError, match=expected):
        call()
