"""
Blind deconvolution with a generator of images
==============================================

All images of a camera are blurred by the same unknown kernel: ``y = kernel * G(z) + noise``. G is a network
that makes sharp images from ten numbers. This is dictionary learning with a generator whose layer A is a
convolution: it has 9 unknowns, not 64 x 64. How many images does it take to find the kernel, and what does
the structure bring?
"""

import matplotlib.pyplot as plt
import numpy as np
import torch

from calepin import Problem
from calepin.datasets import load_digits
from calepin.generators import LatentProblem
from calepin.learning import Batch, LeastSquares
from calepin.likelihoods import Gaussian
from calepin.networks import pretrained
from calepin.operators import Dense
from calepin.solvers import decode

BLUE, ORANGE = "#0072B2", "#D55E00"

# %%
# Digits that the network has not seen, blurred by an oblique kernel, with noise of standard deviation 0.05.
# A convolution is linear in its kernel: ``A = sum of kernel[i] shifts[i]``, where a shift is the matrix that
# moves images by a pixel.
sharp = torch.from_numpy(load_digits()[0][1500:1600]).double()
generator = pretrained("vae-digits").decoder.double().requires_grad_(False)
pixels = torch.eye(64, dtype=torch.float64).reshape(64, 1, 8, 8)
shifts = torch.nn.functional.unfold(pixels, 3, padding=1).permute(1, 0, 2)  # (9, 64, 64)


def layer(kernel):
    """Return the matrix A of a kernel; images are rows, blurred ones are ``images @ A``."""
    return torch.einsum("k,kij->ij", kernel.flatten(), shifts)


sigma = 0.05
kernel = torch.tensor([[0.35, 0.10, 0.00], [0.10, 0.20, 0.05], [0.00, 0.05, 0.15]], dtype=torch.float64)
noise = torch.randn(sharp.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
blurred = sharp @ layer(kernel) + sigma * noise


# %%
# Alternating minimisation, as for any layer: latents by Levenberg-Marquardt, then the layer by least squares,
# here for nine numbers. The start is a kernel that does not blur.
def latents(y, atoms, z0=None):
    """Return the latents of observations, of variance 1 before the data are seen."""
    problem = LatentProblem(
        Problem(Dense(atoms), Gaussian(), y), generator, latent_dim=10, prior=sigma**2
    )  # fmt: skip
    return decode(problem, z0=z0, n_starts=4 if z0 is None else 1).z


def deconvolve(y, n_iter=20):
    """Return the kernel and the sharp images of observations."""
    found, z = torch.eye(9, dtype=torch.float64)[4], None
    for _ in range(n_iter):
        z = latents(y, layer(found), z)
        moved = torch.einsum("ni,kij->njk", generator(z), shifts).reshape(-1, 9)
        found = torch.linalg.lstsq(moved, y.reshape(-1, 1)).solution[:, 0]
    return found.reshape(3, 3), generator(z)


def free_layer(y, n_iter=20):
    """Return the sharp images of observations if A is any matrix, near the identity at first."""
    rule = LeastSquares(generator, 10, prior=sigma**2)
    state = rule.init(torch.eye(64, dtype=torch.float64))
    for _ in range(n_iter):
        rule.step(state, Batch(y.numpy(), None))
    return generator(latents(y, state.atoms))


# %%
# The error of the kernel, and of ten sharp images, which are among the images of every run.
def error(images):
    """Return the root mean squared error of a pixel of the first ten images."""
    return float((images[:10] - sharp[:10]).square().mean().sqrt())


numbers = (10, 20, 50, 100)
kernels, restored = zip(*(deconvolve(blurred[:n]) for n in numbers), strict=True)
kernel_errors = [float((found - kernel).norm() / kernel.norm()) for found in kernels]
alone = float((deconvolve(blurred[:1])[0] - kernel).norm() / kernel.norm())
structured = [error(images) for images in restored]
free = [error(free_layer(blurred[:n])) for n in numbers]
known = error(generator(latents(blurred[:10], layer(kernel))))
print(f"pixel error: blurred {error(blurred):.3f}, known kernel {known:.3f}")
print(f"kernel from one image: error {alone:.2f}")
for n, *values in zip(numbers, kernel_errors, structured, free, strict=True):
    print("{} images: kernel error {:.2f}, pixels {:.3f}, free layer {:.3f}".format(n, *values))

# %%
# The kernels, and what they restore.
figure = plt.figure(figsize=(9.5, 3.4), layout="constrained")
left, right = figure.subfigures(1, 2, width_ratios=[1.2, 1])
rows = {"blurred": blurred, "restored": restored[-1], "sharp": sharp}
for line, (name, images) in zip(left.subplots(3, 7), rows.items(), strict=True):
    for place, image in zip(line, images[:6], strict=False):
        place.imshow(image.reshape(8, 8).numpy(), cmap="gray_r", vmin=0, vmax=1)
    shown = {"restored": kernels[-1], "sharp": kernel}.get(name)
    if shown is not None:
        line[6].imshow(shown.numpy(), cmap="gray_r", vmin=0, vmax=0.4)
        line[6].set_xlabel("found" if name == "restored" else "true kernel", fontsize=8)
    line[0].set_ylabel(name)
    for place in line:
        place.set(xticks=[], yticks=[])
    if shown is None:
        line[6].set_axis_off()
axes = right.subplots()
axes.plot(numbers, structured, "o-", color=BLUE, label="A is a convolution")
axes.plot(numbers, free, "s-", color=ORANGE, label="A is any matrix")
axes.axhline(known, color="0.5", linestyle=":", label="kernel known")
axes.set(xlabel="blurred images", ylabel="error of a pixel", xscale="log", ylim=(0, None))
axes.set_xticks(numbers, numbers)
axes.minorticks_off()
axes.legend(frameon=False)
plt.show()

# %%
# What was learned
# ----------------
#
# - Twenty blurred images give the kernel up to a quarter of its norm, and restore images nearly as well as
#   the true kernel does. One image is not enough: its latents explain the blur as well.
# - A free layer is less blurred than the camera, but its errors are one and a half times as large as those of
#   a convolution, and more images do not help: latents and layer share the blur.
# - The network cannot make every digit, which limits all of them: with the true kernel the error of a pixel
#   is still half that of the blurred image.
assert np.mean(kernel_errors[1:]) < 0.3
assert alone > 0.5
assert max(structured[1:]) < 1.15 * known
assert min(free) > 1.4 * max(structured[1:])
