"""Remark 2: with samples as few as a new linear layer needs, training a whole network does worse.

Both see the same noisy blurred digits. The network has the sizes of the one whose decoder was cut, and
is trained from scratch until its loss on as many other noisy digits rises; its reconstructions of the
test are, like the dictionary's, the best in the range of its decoder, found by Levenberg-Marquardt.
A further value is that of the pretrained network, tuned on these digits.
"""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from calepin.experiments import Claim, Experiment, Findings, Run
from calepin.generators import LatentProblem
from calepin.learning import ArrayBatches, Batch, LeastSquares, TrainState, VAERule, train
from calepin.likelihoods import Gaussian
from calepin.networks import VAE
from calepin.operators import Identity
from calepin.problem import Problem
from calepin.solvers import decode
from calepin_papers._common import spread
from calepin_papers.generative.comparison import Task
from calepin_papers.generative.digits import Digits, digit_task, load

__all__ = ["GEN_RETRAIN", "Settings"]


@dataclass(frozen=True)
class Settings:
    """How much there is to learn from.

    Attributes
    ----------
    n_trials
        Draws.
    n_batches
        Of 30 digits.
    max_passes
        Of training; it ends when the loss on other digits has not fallen for five passes.
    """

    n_trials: int
    n_batches: int = 10
    max_passes: int = 60


def measure(settings: Settings, run: Run) -> Findings:
    """Return the losses of the new layer, and of networks retrained and tuned; a piece a draw."""
    found = []
    for trial in range(settings.n_trials):
        run.progress(trial / settings.n_trials, f"{load().name}: draw {trial + 1}")
        found.append(run.piece(f"draw{trial}", lambda t=trial: _losses(settings, run.seed, t)))
    values = {}
    for name in ("least_squares", "retrained", "tuned"):
        values |= spread(f"loss_{name}", [float(losses[name]) for losses in found])
    retrained, tuned = (
        values[f"loss_{name}"] / values["loss_least_squares"] for name in ("retrained", "tuned")
    )
    values |= {"retrained_over_least_squares": retrained, "tuned_over_least_squares": tuned}
    return Findings(values, [Claim("loss of the retrained network over least-squares", retrained, ">=", 1.0)])


def _losses(settings: Settings, seed: int, trial: int) -> dict[str, float]:
    digits = load()
    task = digit_task(digits, "blur", seed, trial)
    batches = [task.batch(30)[1] for _ in range(settings.n_batches)]
    others = torch.cat([task.batch(30)[1] for _ in range(settings.n_batches)])
    fresh = VAE(**digits.network.settings(), seed=trial)
    networks = {"retrained": fresh, "tuned": copy.deepcopy(digits.network)}
    return {"least_squares": _layer(task, batches)} | {
        name: _network(network, torch.cat(batches), others, task, settings, digits)
        for name, network in networks.items()
    }


def _layer(task: Task, batches: list[Tensor]) -> float:
    """Return the loss of a new linear layer."""
    rule = LeastSquares(task.generator, task.latent_dim)
    state = rule.init(task.atoms)
    for batch in batches:
        rule.step(state, Batch(batch.numpy(), None))
    z = rule.decode(state.atoms, task.noisy).z
    return _distance(task.generator(z) @ state.atoms, task.clean)


def _network(
    network: VAE, X: Tensor, others: Tensor, task: Task, settings: Settings, digits: Digits
) -> float:
    """Train a network until it overfits, and return the loss of the best in its range."""
    rule = VAERule(network.train())
    data = ArrayBatches(X.clamp(0, 1).numpy(), 30)
    state = TrainState(rule.init())
    best, kept, waited = float("inf"), network, 0
    for n_passes in range(1, settings.max_passes + 1):
        train(rule, data, state, max_iter=n_passes)
        with torch.no_grad():
            held = state.learned.network.negative_elbo(others.clamp(0, 1), torch.Generator().manual_seed(0))
        loss, waited = float(held.mean()), waited + 1
        if loss < best:
            best, kept, waited = loss, copy.deepcopy(state.learned.network), 0
        if waited == 5:
            break
    kept.requires_grad_(False)
    problem = LatentProblem(
        Problem(Identity((task.noisy.shape[1],)), Gaussian(), task.noisy), kept.decoder,
        latent_dim=digits.network.latent_dim,
    )  # fmt: skip
    start = kept.encode(task.noisy.clamp(0, 1))[0]
    return _distance(kept.decoder(decode(problem, z0=start).z), task.clean)


def _distance(made: Tensor, clean: Tensor) -> float:
    return float((made - clean).norm(dim=1).mean())


GEN_RETRAIN = Experiment(
    name="gen-retrain",
    shows="retraining a whole VAE on the same few digits does worse than a new linear layer",
    source="Dictionary learning under generative coefficient priors 2022, Remark 2",
    quick=Settings(n_trials=2),
    paper=Settings(n_trials=10, n_batches=20),
    measure=measure,
)
