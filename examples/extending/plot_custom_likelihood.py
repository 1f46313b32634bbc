"""
A likelihood of your own: measurements with outliers
====================================================

Squared errors trust every entry. If a sensor fails now and then, a few wrong entries spoil a code. How does
one tell calepin that entries may be wrong?

A likelihood is a small class: the negative log-likelihood of a linear predictor, its derivative, a bound on
the second derivative, and a way to draw samples. This one is Student's t distribution, which has heavy
tails.
"""

from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import torch

from calepin import sparse_encode
from calepin.datasets import simulate_sparse
from calepin.testing import check_likelihood

BLUE, ORANGE = "#0072B2", "#D55E00"


@dataclass(frozen=True)
class StudentT:
    """Noise of a scale, with tails that fall as a power of the error."""

    scale: float = 0.1
    freedom: int = 3

    @property
    def curvature(self):
        """Bound the second derivative of nll."""
        return (self.freedom + 1) / (self.freedom * self.scale**2)

    def nll(self, eta, y):
        """Return the negative log-likelihood of each sample, (n,)."""
        squared = (y - eta).square() / (self.freedom * self.scale**2)
        return 0.5 * (self.freedom + 1) * squared.log1p().flatten(1).sum(1)

    def mean(self, eta):
        """Return the mean of y."""
        return eta

    def score(self, eta, y):
        """Return minus the derivative of nll, which is small for large errors."""
        error = y - eta
        return (self.freedom + 1) * error / (self.freedom * self.scale**2 + error.square())

    def sample(self, eta, *, generator=None):
        """Return random observations."""
        normal, *others = torch.randn((1 + self.freedom, *eta.shape), dtype=eta.dtype, generator=generator)
        return eta + self.scale * normal / (sum(x.square() for x in others) / self.freedom).sqrt()

    def check(self, y):
        """Refuse what cannot come from this family."""
        if not torch.isfinite(y).all():
            raise ValueError("y: expected finite values")


# %%
# The check compares the score with the derivative of nll, the curvature with the score, samples with the
# mean.
check_likelihood(StudentT(), torch.linspace(-2, 2, 12, dtype=torch.float64).view(3, 4))

# %%
# Sparse samples of a known dictionary with noise, in which some entries are replaced by large random ones.
# The weight of the l1 norm is in proportion to the curvature of Student's t. The Gaussian likelihood gets
# the best of four weights, chosen with the true codes.
data = simulate_sparse(100, 50, 80, n_nonzero=4, noise=0.05, random_state=0)
rng = np.random.default_rng(1)
place, value = rng.random(data.X.shape), 3 * rng.standard_normal(data.X.shape)
fractions = np.array([0, 0.02, 0.05, 0.1, 0.2])
student = StudentT(scale=0.1)


def relative_error(codes):
    """Return the distance of codes to the true ones, relative to their norm."""
    return float(np.linalg.norm(codes - data.codes) / np.linalg.norm(data.codes))


errors, codes = {"Gaussian": [], "Student's t": []}, {}
for fraction in fractions:
    X = np.where(place < fraction, value, data.X)
    candidates = [sparse_encode(X, data.atoms, alpha=alpha) for alpha in (0.05, 0.2, 0.8, 2.0)]
    codes["Gaussian"] = min(candidates, key=relative_error)
    codes["Student's t"] = sparse_encode(X, data.atoms, likelihood=student, alpha=0.025 * student.curvature)
    for name, found in codes.items():
        errors[name].append(relative_error(found))
    if fraction == 0.05:
        shown = dict(codes)

for name, values in errors.items():
    print(f"{name}: relative error of the codes {np.round(values, 3)}")

# %%
# Codes of the sample with the largest error of the Gaussian likelihood, with five percent of outliers.
worst = int(np.argmax(np.linalg.norm(shown["Gaussian"] - data.codes, axis=1)))
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained", width_ratios=[1.5, 1])
used = data.codes[worst].nonzero()[0]
left.plot(used, data.codes[worst, used], "o", color="0.4", fillstyle="none", markersize=10, label="true")
left.plot(shown["Gaussian"][worst], "s", color=ORANGE, markersize=5, label="Gaussian")
left.plot(shown["Student's t"][worst], "o", color=BLUE, markersize=3.5, label="Student's t")
left.axhline(0, color="0.8", linewidth=0.8, zorder=0)
left.set(xlabel="atom", ylabel="coefficient", title="code of one sample, 5 % of outliers", ylim=(-3.5, 4.5))
left.legend(frameon=False, ncols=3, loc="upper center")
for (name, values), colour, marker in zip(errors.items(), (ORANGE, BLUE), "so", strict=True):
    right.plot(100 * fractions, values, color=colour, marker=marker, label=name)
right.set(xlabel="entries that are wrong (%)", ylabel="relative error of the codes", ylim=(0, None))
right.legend(frameon=False)
plt.show()

# %%
# What was learned
# ----------------
#
# - Without outliers both likelihoods code nearly equally well; with a few percent of them, the error of the
#   Gaussian one has multiplied, even with the best weight, while Student's t hardly notices.
# - Thirty lines are enough, and ``check_likelihood`` finds a wrong sign or factor before it costs a day.
# - The same class works in :func:`calepin.solve`, in unfolded and convolutional learners, and in untrained
#   networks.
assert errors["Student's t"][2] < 0.5 * errors["Gaussian"][2]
