import inspect
import os
import signal
import warnings
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning

from calepin.core.errors import IncompatibleError
from calepin.likelihoods import Binomial, Gaussian, Poisson
from calepin.networks import ComplexPair, DeepDecoder, LinearGenerator, TwoLayerGenerator, triangular_kernel
from calepin.operators import Dense, GaussianSketch, Identity, Mask, SubsampledHadamard
from calepin.reconstruction import UntrainedReconstructor, data_consistent, fit_untrained
from calepin.reconstruction.fit import LEARNING_RATE
from calepin.solvers import LBFGS, Adam, GradientDescent
from calepin.solvers.first_order import DescentState

DECODER = DeepDecoder((16, 16), channels=8, depth=2, in_size=4)
SKETCH = SubsampledHadamard((1, 16, 16), 96).double()


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def images(n=2):
    """Smooth images, each with a frequency of its own."""
    place = torch.linspace(0, 3, 16, dtype=torch.float64)
    waves = [0.5 + 0.2 * torch.sin(place + i) + 0.2 * torch.cos((i + 1) * place)[:, None] for i in range(n)]
    return torch.stack(waves)[:, None]


def quiet(*arguments, **settings):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return fit_untrained(*arguments, **settings)


def relative_error(x, truth):
    return ((x - truth).flatten(1).norm(dim=1) / truth.flatten(1).norm(dim=1)) ** 2


Y = SKETCH(images())


@pytest.mark.parametrize(
    ("optimizer", "iterations"), [(Adam(0.03), 150), (LBFGS(), 60), (GradientDescent(momentum=0.9), 150)]
)
def test_a_smooth_image_is_recovered_from_fewer_measurements(optimizer, iterations):
    x = images()
    found = quiet(DECODER, SKETCH, SKETCH(x), optimizer=optimizer, max_iter=iterations)
    backprojected = SKETCH.adjoint(SKETCH(x))
    assert (relative_error(found.x, x) < 0.02).all()
    assert (relative_error(found.x, x) < 0.1 * relative_error(backprojected, x)).all()


def test_gradient_descent_on_a_linear_generator_finds_the_least_norm_solution():
    J = torch.randn(6, 12, dtype=torch.float64, generator=generator())
    operator = Dense(torch.randn(6, 4, dtype=torch.float64, generator=generator(1)))
    y = torch.randn(1, 4, dtype=torch.float64, generator=generator(2))
    found = fit_untrained(
        LinearGenerator(J), operator, y, optimizer=GradientDescent(momentum=0.9), tol=1e-9, max_iter=4000
    )
    expected = torch.linalg.pinv(operator.atoms.T @ J) @ y[0]
    assert bool(found.converged.all())
    torch.testing.assert_close(found.weights[0], expected, rtol=1e-6, atol=1e-8)


def test_the_step_of_theorem_2_lowers_the_loss_in_every_iteration():
    network = TwoLayerGenerator(40, channels=64, kernel=triangular_kernel(9))
    operator = GaussianSketch((40,), 20).double()
    y = operator(torch.cos(torch.arange(40, dtype=torch.float64) / 40 * 2 * torch.pi)[None])
    start = network.initial(1, like=y, generator=generator()) * network.initial_scale(y)
    found = quiet(network, operator, y, optimizer=GradientDescent(), start=start, max_iter=60)
    assert (np.diff(found.history["loss"][:, 0]) < 0).all()


@pytest.mark.parametrize("optimizer", [Adam(0.03), LBFGS(), GradientDescent(momentum=0.9)])
def test_problems_of_a_batch_do_not_meet(optimizer):
    y = SKETCH(images(3))
    start = DECODER.initial(3, like=y, generator=generator())
    settings = {"optimizer": optimizer, "max_iter": 15}
    together = quiet(DECODER, SKETCH, y, start=start, **settings)
    for i in range(3):
        if isinstance(optimizer, GradientDescent):  # its step comes from the first problem's Jacobian
            continue
        alone = quiet(DECODER, SKETCH, y[i : i + 1], start=start[i : i + 1], **settings)
        torch.testing.assert_close(alone.x[0], together.x[i], rtol=1e-6, atol=1e-8)


def test_the_best_iterate_is_returned():
    y = SKETCH(images())
    found = quiet(DECODER, SKETCH, y, optimizer=Adam(1.0), max_iter=40)
    losses = found.history["loss"]
    assert losses.shape == (41, 2)
    np.testing.assert_allclose(found.loss, losses.min(0))
    np.testing.assert_array_equal(found.best_iteration, losses.argmin(0))
    torch.testing.assert_close(DECODER(found.weights), found.x)
    assert (losses[-1] > losses.min(0)).any()


def test_a_residual_under_tol_ends_the_fit_without_a_warning():
    y = SKETCH(images())
    found = fit_untrained(DECODER, SKETCH, y, optimizer=Adam(0.03), tol=0.1)
    assert bool((found.residual <= 0.1).all())
    assert bool(found.converged.all())
    assert found.n_iter < 200


def test_a_plateau_ends_the_fit():
    noise = torch.randn(1, 1, 16, 16, dtype=torch.float64, generator=generator())
    y = images(1) + 0.3 * noise
    found = fit_untrained(DECODER, Identity((1, 16, 16)), y, optimizer=Adam(0.02), patience=30, max_iter=5000)
    assert bool(found.converged.all())
    assert float(found.residual) > 0.1


def test_not_converging_warns_with_the_residual():
    with pytest.warns(ConvergenceWarning, match=r"2 of 2 fits have not converged after 3 .* residual 0\."):
        fit_untrained(DECODER, SKETCH, SKETCH(images()), max_iter=3)


def test_divergence_halves_the_step_and_keeps_the_best_iterate():
    network = LinearGenerator(torch.eye(8, dtype=torch.float64))
    operator = Dense(torch.randn(8, 4, dtype=torch.float64, generator=generator()))
    y = torch.ones(1, 4, dtype=torch.float64)
    step = 60 / operator.norm_squared()
    found = fit_untrained(network, operator, y, optimizer=GradientDescent(step), tol=1e-4, max_iter=4000)
    assert 5 <= int(found.n_reductions) <= 7
    assert float(found.residual) <= 1e-4
    with pytest.warns(
        ConvergenceWarning, match="halved the step size up to 10 times, the best iterate is kept"
    ):
        lost = fit_untrained(network, operator, y, optimizer=GradientDescent(1e6 * step), max_iter=2000)
    assert torch.isfinite(lost.x).all()
    assert lost.n_iter < 2000


@pytest.mark.parametrize("optimizer", [Adam(0.03), LBFGS(4), GradientDescent(momentum=0.9)])
def test_a_resumed_fit_equals_an_uninterrupted_one_bit_for_bit(optimizer, tmp_path):
    y = SKETCH(images())
    fit = partial(quiet, DECODER, SKETCH, y, optimizer=optimizer, held_out=0.1)
    whole = fit(max_iter=12)
    path = tmp_path / "fit.safetensors"
    fit(max_iter=5, checkpoint=path)
    resumed = fit(max_iter=12, checkpoint=path, resume=True)
    assert torch.equal(whole.x, resumed.x)
    assert torch.equal(whole.weights, resumed.weights)
    for name, values in whole.history.items():
        np.testing.assert_array_equal(values, resumed.history[name])


def test_an_interrupted_fit_leaves_a_whole_state(tmp_path):
    y = SKETCH(images())
    path = tmp_path / "fit.safetensors"

    def stop(progress):
        if progress.n_iter == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_untrained(DECODER, SKETCH, y, max_iter=9, checkpoint=path, callback=stop)
    resumed = quiet(DECODER, SKETCH, y, max_iter=9, checkpoint=path, resume=True)
    assert torch.equal(resumed.x, quiet(DECODER, SKETCH, y, max_iter=9).x)


@dataclass(frozen=True)
class Signalled(Adam):
    """Adam that is sent a signal in the middle of its fourth step."""

    signals: ClassVar[list[int]] = []

    def step(self, problem, state):
        moved = super().step(problem, state)
        if self.signals and int(state.count.max()) == 3:
            os.kill(os.getpid(), self.signals.pop())
        return moved


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_step_and_leaves_a_state_that_resumes_bit_for_bit(number, tmp_path):
    path = tmp_path / "fit.safetensors"
    seen = []
    fit = partial(quiet, DECODER, SKETCH, Y, optimizer=Signalled(0.03), held_out=0.1, n_starts=2, max_iter=9)
    whole = fit()
    handlers = [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)]
    Signalled.signals.append(number)
    with pytest.raises(KeyboardInterrupt):
        fit(checkpoint=path, callback=lambda progress: seen.append(progress.n_iter))
    assert seen == [1, 2, 3, 4]  # the step under way has ended, and no other has begun
    assert handlers == [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)]
    resumed = fit(checkpoint=path, resume=True)
    assert torch.equal(whole.x, resumed.x)
    assert torch.equal(whole.weights, resumed.weights)
    for name, values in whole.history.items():
        np.testing.assert_array_equal(values, resumed.history[name])


def test_a_finished_fit_is_resumed_without_an_iteration(tmp_path):
    path = tmp_path / "fit.safetensors"
    found = quiet(DECODER, SKETCH, Y, tol=0.1, checkpoint=path)
    again = quiet(DECODER, SKETCH, Y, tol=0.1, checkpoint=path, resume=True)
    assert again.n_iter == found.n_iter
    assert torch.equal(again.x, found.x)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_complex_fits_resume(dtype, tmp_path):
    network = ComplexPair(DeepDecoder((16, 16), out_channels=2, channels=8, depth=2, in_size=4))
    operator = Mask(torch.rand(1, 16, 16, generator=generator()) < 0.6)
    y = operator(torch.complex(images(1), 1 - images(1)).to(dtype))
    path = tmp_path / "fit.safetensors"
    quiet(network, operator, y, max_iter=3, checkpoint=path)
    resumed = quiet(network, operator, y, max_iter=6, checkpoint=path, resume=True)
    assert torch.equal(resumed.x, quiet(network, operator, y, max_iter=6).x)


def test_an_optimiser_of_ones_own_is_run_and_resumed(tmp_path):
    @dataclass(frozen=True)
    class Signs:
        """Steps of one length, down each weight."""

        length: float = 1e-3

        def begin(self, problem, point):
            return DescentState(point, torch.ones_like(point.value)[:, None])

        def step(self, problem, state):
            move = -self.length * state.scale * state.point.gradient.sign()
            return replace(state, point=problem.evaluate(state.z + move))

    path = tmp_path / "fit.safetensors"
    whole = quiet(DECODER, SKETCH, Y, optimizer=Signs(), max_iter=40)
    assert (whole.loss < torch.from_numpy(whole.history["loss"][0])).all()
    quiet(DECODER, SKETCH, Y, optimizer=Signs(), max_iter=15, checkpoint=path)
    resumed = quiet(DECODER, SKETCH, Y, optimizer=Signs(), max_iter=40, checkpoint=path, resume=True)
    assert torch.equal(whole.x, resumed.x)


def test_a_checkpoint_of_another_fit_is_refused(tmp_path):
    path = tmp_path / "fit.safetensors"
    y = SKETCH(images())
    quiet(DECODER, SKETCH, y, max_iter=2, checkpoint=path)
    with pytest.raises(ValueError, match=r"is of another run: its optimizer\.name was 'Adam', now 'LBFGS'"):
        fit_untrained(DECODER, SKETCH, y, optimizer=LBFGS(), checkpoint=path, resume=True)
    with pytest.raises(ValueError, match=r"is of another run: its y"):
        fit_untrained(DECODER, SKETCH, y + 1, checkpoint=path, resume=True)


@pytest.mark.parametrize("likelihood", [Poisson(), Binomial(20)])
def test_counts_are_fitted(likelihood):
    network = DeepDecoder((16, 16), channels=8, depth=2, in_size=4, output="none")
    eta = 4 * images() - 1
    y = likelihood.sample(eta, generator=generator())
    found = quiet(
        network, Identity((1, 16, 16)), y, likelihood=likelihood, optimizer=Adam(0.03), max_iter=150
    )
    mean = likelihood.mean(eta)
    fitted = (likelihood.mean(found.x) - mean).square().mean()
    assert fitted < 0.6 * (y - mean).square().mean()


def test_held_out_measurements_stop_before_the_noise_is_fitted():
    x = images(1)
    y = x + 0.3 * torch.randn(x.shape, dtype=torch.float64, generator=generator())
    network = DeepDecoder((16, 16), channels=48, depth=2, in_size=8)
    operator = Identity((1, 16, 16))
    stopped = fit_untrained(
        network, operator, y, optimizer=Adam(0.02), held_out=0.15, patience=80, max_iter=1500
    )
    fitted = quiet(network, operator, y, optimizer=Adam(0.02), max_iter=600)
    assert stopped.n_iter < 600
    assert relative_error(stopped.x, x) < 0.7 * relative_error(fitted.x, x)


def test_starts_are_averaged():
    x = images()
    y = SKETCH(x)
    found = quiet(DECODER, SKETCH, y, n_starts=3, optimizer=Adam(0.03), max_iter=100)
    assert found.weights.shape[0] == 6
    each = DECODER(found.weights).view(2, 3, 1, 16, 16)
    torch.testing.assert_close(found.x, each.mean(1))
    single = relative_error(each.flatten(0, 1), x.repeat_interleave(3, 0)).view(2, 3).mean(1)
    assert (relative_error(found.x, x) < single).all()


def test_a_mask_for_each_sample_meets_every_start():
    x = images()
    operator = Mask(torch.rand(x.shape, generator=generator()) < 0.5, per_sample=True)
    found = quiet(DECODER, operator, operator(x), n_starts=2, optimizer=Adam(0.03), max_iter=150)
    assert (relative_error(found.x, x) < 0.02).all()


def test_consistent_signals_explain_the_measurements():
    x = images()
    y = SKETCH(x)
    plain = quiet(DECODER, SKETCH, y, max_iter=60, optimizer=Adam(0.03))
    found = quiet(DECODER, SKETCH, y, max_iter=60, optimizer=Adam(0.03), consistent=True)
    torch.testing.assert_close(SKETCH(found.x), y, rtol=1e-8, atol=1e-8)
    assert (relative_error(found.x, x) < relative_error(plain.x, x)).all()


@pytest.mark.parametrize("weight", [0.0, 0.7])
def test_data_consistency_is_its_closed_form(weight):
    A = torch.randn(5, 8, dtype=torch.float64, generator=generator())
    x = torch.randn(2, 8, dtype=torch.float64, generator=generator(1))
    y = torch.randn(2, 5, dtype=torch.float64, generator=generator(2))
    inverse = torch.linalg.pinv(A) if weight == 0 else torch.linalg.inv(A.T @ A + weight * torch.eye(8)) @ A.T
    expected = x + (y - x @ A.T) @ inverse.T
    torch.testing.assert_close(data_consistent(Dense(A.T), x, y, weight=weight), expected)


def test_complex_images_come_from_two_channels():
    network = ComplexPair(DeepDecoder((16, 16), out_channels=2, channels=8, depth=2, in_size=4))
    x = torch.complex(images(1), 1 - images(1))
    operator = Mask(torch.rand(1, 16, 16, generator=generator()) < 0.6)
    found = quiet(network, operator, operator(x), optimizer=Adam(0.03), max_iter=200)
    assert found.x.is_complex()
    error = (found.x - x).abs().square().sum() / x.abs().square().sum()
    assert error < 0.02


def test_the_callback_sees_every_iterate_and_may_stop():
    seen = []

    def watch(progress):
        seen.append(progress.x)
        return progress.n_iter == 4

    found = quiet(DECODER, SKETCH, SKETCH(images()), callback=watch)
    assert len(seen) == found.n_iter == 4
    assert seen[0].shape == (2, 1, 16, 16)


PAIR = ComplexPair(DeepDecoder((16, 16), out_channels=2, channels=4))
REAL = (DECODER, SKETCH, Y)


@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    [
        ((DECODER, Identity((1, 8, 8)), Y), {}, "network: expected signals of shape"),
        ((DECODER, SKETCH, Y[:, :50]), {}, "y: SubsampledHadamard expected shape"),
        ((DECODER, SKETCH, torch.full_like(Y, torch.nan)), {}, "y: expected finite values"),
        ((DECODER, SKETCH, torch.complex(Y, Y)), {}, "y: expected real values"),
        ((DECODER, SKETCH, torch.zeros_like(Y)), {}, "y: expected measurements of a signal"),
        (
            (DECODER, Mask(torch.zeros(1, 16, 16, dtype=torch.bool)), images()),
            {},
            "nothing was measured",
        ),
        (
            (ComplexPair(DeepDecoder((16, 16), out_channels=2, channels=4)), SKETCH, Y),
            {},
            "y: expected complex",
        ),
        (REAL, {"max_iter": 0}, "max_iter: expected a positive integer"),
        (REAL, {"n_starts": 0}, "n_starts: expected a positive integer"),
        (REAL, {"tol": -1.0}, "tol: expected a finite number of at least 0"),
        (REAL, {"held_out": 1.0}, "held_out: expected a finite number of at least 0 and below 1"),
        (REAL, {"held_out": 1e-9}, "held_out: expected a fraction that takes some"),
        (REAL, {"start": torch.ones(1, 3)}, "start: expected shape"),
    ],
)
def test_what_does_not_fit_together_is_named(arguments, settings, message):
    with pytest.raises(ValueError, match=message):
        fit_untrained(*arguments, **settings)


def test_missing_capabilities_are_named():
    counts = images().round()
    with pytest.raises(IncompatibleError, match="needs likelihood.curvature, which Poisson"):
        fit_untrained(
            DECODER, Identity((1, 16, 16)), counts, likelihood=Poisson(), optimizer=GradientDescent()
        )
    with pytest.raises(IncompatibleError, match="consistent needs Gaussian"):
        fit_untrained(DECODER, Identity((1, 16, 16)), counts, likelihood=Poisson(), consistent=True)
    assert quiet(*REAL, likelihood=Gaussian(), max_iter=1).n_iter == 1


def test_a_negative_weight_is_named():
    with pytest.raises(ValueError, match="weight: expected a finite number of at least 0"):
        data_consistent(SKETCH, images(), Y, weight=-1.0)


def test_arrays_are_refused():
    with pytest.raises(TypeError, match=r"y: expected a torch.Tensor, got numpy\.ndarray"):
        fit_untrained(DECODER, SKETCH, Y.numpy())
    with pytest.raises(TypeError, match=r"start: expected a torch.Tensor, got numpy\.ndarray"):
        fit_untrained(DECODER, SKETCH, Y, start=np.ones((2, DECODER.n_parameters)))


def test_the_defaults_are_written_once():
    functions = (fit_untrained, UntrainedReconstructor.__init__)
    one, other = (inspect.signature(function).parameters for function in functions)
    shared = (one.keys() & other.keys()) - {"operator", "network"}
    assert {"optimizer", "max_iter", "tol", "patience", "n_starts", "held_out"} <= shared
    for name in shared:
        assert one[name].default == other[name].default, name
    named = quiet(DECODER, SKETCH, Y, max_iter=3, optimizer=Adam(LEARNING_RATE))
    assert torch.equal(quiet(DECODER, SKETCH, Y, max_iter=3).x, named.x)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("network", {"network": torch.nn.Linear(2, 2)}),
        ("operator", {"operator": np.eye(2)}),
        ("likelihood", {"likelihood": Gaussian}),
        ("optimizer", {"optimizer": "adam"}),
    ],
)
def test_an_object_without_the_methods_is_named(name, given):
    arguments = {"network": DECODER, "operator": SKETCH, "y": Y, **given}
    with pytest.raises(TypeError, match=f"^{name}: expected an object with"):
        fit_untrained(**arguments)
