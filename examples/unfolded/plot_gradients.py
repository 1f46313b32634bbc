"""
Three gradients of a dictionary, compared
=========================================

An encoder of T layers of ISTA codes a sample; the gradient of the loss with respect to the atoms can stop
at the decoder ("dec") or pass through the encoder, with the penalty in the loss ("ae-lasso") or without it
("ae-ls"). Which one is nearest to the gradient one wants, and after how many layers?

There are two answers, since one may want two things: the gradient of the lasso objective, or the gradient
at the true codes, which points to the dictionary that generated the data (Tolooshams and Ba 2022, figure
4).
"""

import matplotlib.pyplot as plt
import numpy as np

from calepin.datasets import simulate_sparse
from calepin.learning import dictionary_gradient
from calepin.penalties import L1

STYLE = {"dec": ("#0072B2", "-", 3.5), "ae-lasso": ("#D55E00", "-", 1.8), "ae-ls": ("#009E73", "--", 1.8)}

# %%
# Sparse samples of a known dictionary, and atoms near it: what a learner has near its end.
data = simulate_sparse(200, 60, 80, n_nonzero=4, random_state=0)
rng = np.random.default_rng(1)
atoms = data.atoms + 0.02 * rng.standard_normal(data.atoms.shape)
atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
penalty = L1(0.2)

# %%
# The two targets. ``differentiate="implicit"`` gives the lasso's gradient with exact codes, the limit of
# infinitely many layers. The true codes are known, since the data are simulated.
lasso = dictionary_gradient(data.X, atoms, penalty=penalty, n_unfold=1, differentiate="implicit")
true = data.codes.T @ (data.codes @ atoms - data.X) / len(data.X)

# %%
# The relative distance of each gradient to either target, against the number of layers.
layers = np.array([1, 2, 4, 8, 16, 32, 64, 128, 256])
distances = {
    name: np.array(
        [
            [np.linalg.norm(g - target) / np.linalg.norm(target) for target in (lasso, true)]
            for g in (
                dictionary_gradient(data.X, atoms, penalty=penalty, n_unfold=int(t), gradient=name)
                for t in layers
            )
        ]
    )
    for name in STYLE
}

figure, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
for column, (place, title) in enumerate(
    zip(axes, ("to the gradient of the lasso objective", "to the gradient at the true codes"), strict=True)
):
    for name, (colour, dash, width) in STYLE.items():
        place.plot(
            layers, distances[name][:, column], color=colour, linestyle=dash, linewidth=width, label=name
        )
    place.set(xlabel="layers T", ylabel="relative distance", title=title, xscale="log", yscale="log")
    place.set_xticks(layers[::2], layers[::2])
    place.minorticks_off()
    place.grid(color="0.92")
axes[1].set(yscale="linear", ylim=(0, None))
axes[1].legend(frameon=False)
plt.show()

last = {name: found[-1].round(4).tolist() for name, found in distances.items()}
print("with 256 layers, distance to lasso and to true:", last)

# %%
# What was learned
# ----------------
#
# - For the lasso objective: ae-lasso gets there with about half the layers of dec. ae-ls does not get
#   there, since it minimises something else.
# - For the true dictionary: dec and ae-lasso have a floor, the bias of the l1 norm. ae-ls has a lower one;
#   this is why it is the default of :class:`calepin.UnfoldedDictionaryLearner`.
# - With few layers the codes are far from converged, and none of the three is good.
middle = int(np.flatnonzero(layers == 64)[0])
assert distances["ae-lasso"][middle, 0] < distances["dec"][middle, 0]
assert distances["ae-ls"][-1, 1] < 0.7 * distances["dec"][-1, 1]
