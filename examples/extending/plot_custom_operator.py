"""
An operator of your own: tomography from a few angles
=====================================================

A tomograph measures sums of pixels along lines, from several angles. calepin has an operator for that,
``Radon``. Suppose that it had none: how much has to be written before its solvers work with one?

A linear operator needs its two shapes and ``forward``. The adjoint follows by automatic differentiation,
the norm by the Lanczos method; ``check_operator`` tests both, and linearity, shapes, copies and gradients.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
import torch
from skimage.data import shepp_logan_phantom
from skimage.transform import iradon
from sklearn.exceptions import ConvergenceWarning

from calepin import Problem, UntrainedReconstructor, solve
from calepin.likelihoods import Gaussian
from calepin.metrics import psnr
from calepin.operators import LinearOperator, Wavelet
from calepin.penalties import L1
from calepin.solvers import FISTA
from calepin.testing import check_operator

SIZE, N_ANGLES = 64, 20


class Projections(LinearOperator):
    """Map images (n, 1, size, size) to column sums after each rotation, (n, 1, n_angles, size)."""

    def __init__(self, size, angles):
        super().__init__((1, size, size), (1, len(angles), size))
        turn = torch.stack([torch.cos(angles), torch.sin(angles), -torch.sin(angles), torch.cos(angles)], 1)
        matrices = torch.cat([turn.view(-1, 2, 2), torch.zeros(len(angles), 2, 1).to(turn)], 2)
        grid = torch.nn.functional.affine_grid(matrices, (len(angles), 1, size, size), align_corners=False)
        self.register_buffer("grid", grid.flatten(0, 1)[None])  # all rotations in one tall image

    def forward(self, x):
        """Rotate and average."""
        self.check_input(x)
        grid = self.grid.expand(len(x), -1, -1, -1)
        turned = torch.nn.functional.grid_sample(x, grid, align_corners=False)
        return turned.unflatten(2, (-1, x.shape[-1])).mean(3)


# %%
# The check runs in double precision, on a small operator.
angles = torch.arange(N_ANGLES, dtype=torch.float64) * torch.pi / N_ANGLES
check_operator(Projections(8, angles[::5]))

# %%
# A phantom in a circle, measured from 20 angles with noise of one percent.
phantom = np.pad(shepp_logan_phantom(), 24).reshape(SIZE, 7, SIZE, 7).mean((1, 3))
operator = Projections(SIZE, angles.float())
x = torch.from_numpy(phantom.astype(np.float32))[None, None]
y = operator(x)
y = y + 0.01 * y.max() * torch.randn(y.shape, generator=torch.Generator().manual_seed(0))

# %%
# Three reconstructions: the filtered back-projection of scikit-image, sparse wavelets, an untrained
# network. The last two know the operator only by its methods.
sinogram = SIZE * y[0, 0].numpy().T
back = iradon(sinogram, theta=np.degrees(angles.numpy()), filter_name="hann")
wavelets = Wavelet((1, SIZE, SIZE), moments=2)
problem = Problem(operator @ wavelets, Gaussian(), y)
sparse = wavelets(solve(problem, FISTA(L1(2e-4)), n_iter=150).z)[0, 0].numpy()
reconstructor = UntrainedReconstructor(operator, max_iter=250, tol=0.02, n_starts=2, random_state=0)
with warnings.catch_warnings():  # the number of iterations is chosen: more would fit the measurements better
    warnings.simplefilter("ignore", ConvergenceWarning)
    untrained = reconstructor.reconstruct(y)[0, 0].numpy()

# Pixels outside of the circle that every angle sees are set to zero.
images = {"back-projection": back, "wavelets": sparse, "untrained network": untrained}
row, column = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
seen = row**2 + column**2 <= (SIZE / 2) ** 2
images = {"true": phantom} | {name: np.where(seen, pixels, 0) for name, pixels in images.items()}
quality = {name: psnr(pixels, phantom) for name, pixels in images.items() if name != "true"}
print({name: round(value, 1) for name, value in quality.items()})

figure, axes = plt.subplots(1, 5, figsize=(12, 2.9), layout="constrained")
axes[0].imshow(y[0, 0].numpy(), cmap="gray", aspect="auto", extent=(0, SIZE, 180, 0))
axes[0].set(xlabel="position (pixels)", ylabel="angle (degrees)", title="measured", yticks=(0, 90, 180))
for place, (name, pixels) in zip(axes[1:], images.items(), strict=True):
    place.imshow(pixels, cmap="gray", vmin=0, vmax=1)
    place.set(xticks=[], yticks=[])
    place.set_title(f"{name}: {quality[name]:.1f} dB" if name in quality else name, fontsize=10)
plt.show()

# %%
# What was learned
# ----------------
#
# - One constructor and one method make an operator: every solver and every prior of calepin works with it.
# - Twenty angles are too few for back-projection, whose streaks the two priors do not have.
# - Write an ``adjoint`` of your own if you know a faster one; the check compares it with ``forward``.
assert max(quality["wavelets"], quality["untrained network"]) > quality["back-projection"]
