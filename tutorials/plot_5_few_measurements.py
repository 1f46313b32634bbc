"""
Few measurements
================

You can measure only a few linear combinations of an image or a signal, and there are no training
data. This tutorial reconstructs an image from fewer measurements than pixels with an untrained
network, and asks how many measurements are needed.

The model: measurements are ``y = A x + noise`` with a known operator A. The signal x is the output
of a network whose weights are fitted to y. No training is involved: smooth and piecewise smooth
images are what such a network fits first.
"""

# %%
# Measure
# -------
# An image of 64 x 64 pixels has 4096 unknowns. The operator takes 1024 entries of its randomised
# Hadamard transform, as a single-pixel camera does.

import warnings

import matplotlib.pyplot as plt
import numpy as np
import torch
from skimage.transform import resize

from calepin import UntrainedReconstructor
from calepin.datasets import load_sample
from calepin.metrics import psnr
from calepin.networks import triangular_kernel
from calepin.operators import SubsampledHadamard
from calepin.reconstruction import kernel_weights, measurements_needed

BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"
image = resize(load_sample("camera").pixels, (64, 64), anti_aliasing=True).astype(np.float32)


def measure(n_measurements):
    """Return an operator and the measurements of the image."""
    operator = SubsampledHadamard((1, 64, 64), n_measurements)
    return operator, operator(torch.from_numpy(image)[None, None])


operator, y = measure(1024)
print("image", image.shape, "measurements", tuple(y.shape))

# %%
# Reconstruct
# -----------
# :class:`calepin.UntrainedReconstructor` has no ``fit``: each image is its own problem.
# ``n_starts=2`` averages two random starts, and ``consistent=True`` moves the result to the nearest
# image that agrees with the measurements.

settings = {"max_iter": 150, "tol": 0.0, "patience": None, "random_state": 0}
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # with tol = 0 it always says that it has not converged
    reconstructor = UntrainedReconstructor(operator, n_starts=2, consistent=True, **settings)
    found = reconstructor.reconstruct(y.numpy())[0, 0]
back_projected = operator.adjoint(y)[0, 0].numpy()

figure, panels = plt.subplots(1, 3, figsize=(9, 3.5), layout="constrained")
for axes, pixels, title in zip(
    panels,
    (back_projected, found, image),
    ("adjoint of the measurements", "untrained network", "original"),
    strict=True,
):
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=1)
    axes.set(title=title, xticks=[], yticks=[])
    if pixels is not image:
        axes.set_xlabel(f"{psnr(image, pixels):.1f} dB")
plt.show()

# %%
# The adjoint is what one gets without a prior. Look for detail that was not measured: an untrained
# network invents little, but it smooths fine texture such as the grass.
#
# When to stop
# ------------
# Measurements have no noise here, so that fitting them longer does little harm. With noise the
# network fits the image first and then the noise. ``held_out=0.1`` keeps a tenth of the
# measurements aside and returns the iterate that predicts them best.

noise = 0.1 * y.std() * torch.randn(y.shape, generator=torch.Generator().manual_seed(0))
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    noisy = UntrainedReconstructor(operator, held_out=0.1, **(settings | {"max_iter": 300}))
    noisy.reconstruct((y + noise).numpy())
history = noisy.solution_.history
figure, axes = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
axes.semilogy(history["loss"][:, 0] / history["loss"][0, 0], color=BLUE, label="training measurements")
axes.semilogy(
    history["held_out"][:, 0] / history["held_out"][0, 0], "--", color=ORANGE, label="held-out measurements"
)
best = int(noisy.solution_.best_iteration[0])
axes.axvline(best, color="0.5", linestyle=":", label=f"returned: iteration {best}")
axes.set(xlabel="iteration", ylabel="loss / initial loss", title="noise of 10 %")
axes.grid(color="0.9")
axes.legend(frameon=False)
plt.show()

# %%
# How many measurements are needed?
# ---------------------------------
# For an image, try it: reconstruct with more and more of them, and see where the error levels off.

numbers = (256, 512, 1024, 2048)
errors, adjoints = [], []
for n_measurements in numbers:
    operator, y = measure(n_measurements)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x = UntrainedReconstructor(operator, consistent=True, **settings).reconstruct(y.numpy())[0, 0]
    errors.append(psnr(image, x))
    adjoints.append(psnr(image, operator.adjoint(y)[0, 0].numpy()))
figure, axes = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
axes.plot([n / 4096 for n in numbers], errors, "o-", color=BLUE, label="untrained network, one start")
axes.plot([n / 4096 for n in numbers], adjoints, "s--", color=ORANGE, label="adjoint")
axes.set(xlabel="measurements per pixel", ylabel="PSNR (dB)", xscale="log")
axes.set_xticks([n / 4096 for n in numbers], ["1/16", "1/8", "1/4", "1/2"])
axes.minorticks_off()
axes.grid(color="0.9")
axes.legend(frameon=False)
plt.show()

# %%
# For signals of one dimension there is a theory. The number of measurements follows from the kernel
# of the network and the spectrum of the signal. :func:`calepin.reconstruction.measurements_needed`
# evaluates the bound of Heckel and Soltanolkotabi (2020), with a constant from experiments, since
# the theory does not give it.

t = np.linspace(0, 1, 300, endpoint=False)
signals = {
    "one period": np.sin(2 * np.pi * t),
    "six periods": np.sin(12 * np.pi * t),
    "twelve periods": np.sin(24 * np.pi * t),
    "a step": np.where(t < 0.5, -1.0, 1.0),
}
sigma = kernel_weights(triangular_kernel(15), 300)
for name, signal in signals.items():
    print(f"{name}: {measurements_needed(signal, sigma, error=0.1) or 'more than 300'} measurements")

# %%
# The signals have 300 samples. The bound is sufficient, not necessary: in practice fewer suffice.
# What it shows is the trend: faster signals need more measurements, and for a step it promises
# nothing.
#
# What goes wrong, and how calepin reports it
# -------------------------------------------
# - **Too few iterations**: a ``ConvergenceWarning`` gives the residual that was reached.
# - **The learning rate is too large**: a fit that diverges goes back to its best iterate with half
#   the step size; ``solution_.n_reductions`` counts this.
# - **The operator is not the one that measured**: the residual stays large. Check the operator with
#   :func:`calepin.testing.check_operator`, which compares it with its adjoint.
# - **Texture**: grass, hair and noise are not what the network fits first. Wavelets or a trained
#   prior may be better.

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    UntrainedReconstructor(operator, max_iter=5, random_state=0).reconstruct(y.numpy())
for warning in caught:
    print(f"{warning.category.__name__}: {warning.message}")

# %%
# What was learned
# ----------------
# - A network without training is a prior for natural images: a quarter of the measurements gives a
#   recognisable image.
# - Hold measurements out if they are noisy. Average several starts.
# - Smooth signals need few measurements, and edges need many.
#
# On the command line: ``calepin reconstruct --sample camera --operator hadamard --ratio .25 -o
# out.png``. Next: :doc:`/how-to/kspace-files` for magnetic resonance imaging, and
# :doc:`/background/untrained`.
