"""
Which solver finds the latents of a generator?
==============================================

To denoise a sample with a generator, one looks for the latents z that minimise ``||x - G(z) A||^2``. The
problem is not convex. Which solver gets how far, in how much time, and how much do several starts help?
"""

import time

import matplotlib.pyplot as plt
import numpy as np
import torch

from calepin import Problem
from calepin.datasets import load_digits
from calepin.generators import LatentProblem, Sine
from calepin.likelihoods import Gaussian
from calepin.networks import pretrained
from calepin.operators import Dense
from calepin.solvers import LBFGS, Adam, LevenbergMarquardt, decode

STYLE = {
    "Levenberg-Marquardt": ("#0072B2", "o"),
    "L-BFGS": ("#009E73", "^"),
    "Adam": ("#D55E00", "s"),
}

# %%
# Fifty digits that the network has not seen. Its output is a logistic function of ``G(z) A``; the logits of
# the digits, clipped, are therefore the observations of a linear layer A. The layer is the one of the
# network.
digits, _ = load_digits()
network = pretrained("vae-digits")
pixels = torch.from_numpy(digits[1500:1550]).double().clamp(0.02, 0.98)
layer = network.decoder[2].weight.detach().double()  # (64, 100)
problem = LatentProblem(
    Problem(Dense(layer.T), Gaussian(), torch.logit(pixels)), network.generator().double()
)
scale = float(0.5 * problem.problem.y.square().sum(1).mean())

# %%
# For comparison, samples of sin(W z + b), whose objective has many local minima.
sine = Sine(3, 12, dtype=torch.float64)
draw = torch.Generator().manual_seed(0)
atoms = torch.randn(12, 20, dtype=torch.float64, generator=draw)
waves = sine(torch.randn(50, 3, dtype=torch.float64, generator=draw)) @ atoms
wavy = LatentProblem(Problem(Dense(atoms), Gaussian(), waves), sine)

# %%
# The objective after more and more iterations, relative to that of zero, from the same random start.
solvers = {
    "Levenberg-Marquardt": (LevenbergMarquardt(), (1, 2, 4, 8, 16, 32, 64)),
    "L-BFGS": (LBFGS(), (2, 4, 8, 16, 32, 64, 128)),
    "Adam": (Adam(), (8, 16, 32, 64, 128, 256, 512, 1000)),
}
figure, axes = plt.subplots(figsize=(6, 3.8), layout="constrained")
final = {}
for name, (solver, iterations) in solvers.items():
    decode(problem, solver=solver, n_iter=2)  # not timed: the first call loads code
    seconds, values = [], []
    for n_iter in iterations:
        begin = time.process_time()
        found = decode(problem, solver=solver, n_iter=n_iter, tol=0)
        seconds.append(time.process_time() - begin)
        values.append(float(found.objective.mean()) / scale)
    final[name] = values[-1]
    colour, marker = STYLE[name]
    axes.plot(1000 * np.array(seconds), values, color=colour, marker=marker, markersize=4, label=name)
    print(f"{name}: {values[-1]:.4f} after {iterations[-1]} iterations, {1000 * seconds[-1]:.0f} ms")
axes.set(xlabel="CPU time for 50 digits (ms)", ylabel="mean objective (1: zero)", xscale="log", yscale="log")
axes.legend(frameon=False)
axes.grid(color="0.92")

# %%
# Several starts: the best one of each sample is kept.
starts = (1, 2, 4, 8, 16)
figure, axes = plt.subplots(figsize=(6, 3.8), layout="constrained")
best = {}
for name, one, colour, marker in (
    ("ReLU network of digits", problem, "#0072B2", "o"),
    ("sin(W z + b)", wavy, "#CC79A7", "s"),
):
    energy = float(0.5 * one.problem.y.square().sum(1).mean())
    best[name] = [float(decode(one, n_starts=n).objective.mean()) / energy for n in starts]
    axes.plot(starts, best[name], marker=marker, color=colour, label=name)
    print(f"{name}: {np.round(best[name], 3)} with {starts} starts")
axes.set(xlabel="random starts", ylabel="mean objective (1: zero)", xscale="log", ylim=(0, None))
axes.set_xticks(starts, starts)
axes.minorticks_off()
axes.legend(frameon=False)
plt.show()

# %%
# What was learned
# ----------------
#
# - Levenberg-Marquardt, the default, converges in a few dozen iterations: the Jacobian of a small generator
#   has a closed form, and all samples are one batch.
# - Adam takes many more iterations for the same objective. It needs gradients only, so it remains for
#   generators whose Jacobian is too large.
# - For the network of digits one start is enough: all find the same minimum. For sin(W z + b) most starts
#   end in a bad local minimum, and every doubling of their number helps. Try it for your generator.
assert final["Levenberg-Marquardt"] <= min(final.values()) * 1.05
assert best["sin(W z + b)"][-1] < 0.8 * best["sin(W z + b)"][0]
