"""
Parts or wholes: nonnegative atoms of faces
===========================================

Lee and Seung (1999) found that a nonnegative factorisation of faces gives parts, such as eyes and mouths.
Does a penalty on the codes make the parts clearer? The data are the 100 faces of 25 x 25 pixels in
scikit-image's ``lfw_subset``.
"""

import matplotlib.pyplot as plt
import numpy as np
from skimage.data import lfw_subset
from sklearn.decomposition import NMF

from calepin import DictionaryLearner
from calepin.report import atom_tiles

faces = lfw_subset()[:100].reshape(100, -1).astype(np.float64)

# %%
# Four models with 36 atoms: any sign around the mean face; nonnegative atoms and codes, with a large and
# with a small weight of the l1 norm; and scikit-learn's nonnegative factorisation, which has no penalty.
# Nonnegative data are not centred.

settings = {"max_iter": 100, "random_state": 0}
nonnegative = {"nonnegative": True, "nonnegative_atoms": True, **settings}
models = {
    "any sign, alpha = 0.3": DictionaryLearner(36, alpha=0.3, center=True, **settings),
    "nonnegative, alpha = 0.3": DictionaryLearner(36, alpha=0.3, **nonnegative),
    "nonnegative, alpha = 0.01": DictionaryLearner(36, alpha=0.01, **nonnegative),
    "NMF (scikit-learn)": NMF(36, init="nndsvda", max_iter=1000, tol=1e-3, random_state=0),
}
figure, axes = plt.subplots(1, 4, figsize=(14, 4), layout="constrained")
report = {}
for panel, (name, model) in zip(axes, models.items(), strict=True):
    codes = model.fit_transform(faces)
    lost = np.mean((faces - model.inverse_transform(codes)) ** 2) / np.mean((faces - faces.mean(axis=0)) ** 2)
    # Half of the energy of an atom is in this fraction of its pixels: small for parts, large for wholes.
    energy = -np.sort(-(model.components_**2), axis=1)
    energy = energy.cumsum(axis=1) / energy.sum(axis=1, keepdims=True)
    extent = np.mean((energy < 0.5).mean(axis=1))
    report[name] = {"lost": lost, "nonzeros": np.count_nonzero(codes) / 100, "extent": extent}
    panel.imshow(atom_tiles(model.components_, (25, 25)), cmap="gray", vmin=0, vmax=1)
    panel.set_title(name)
    panel.set_axis_off()

# %%
# What was learned
# ----------------

for name, numbers in report.items():
    print(
        f"{name:26} {numbers['nonzeros']:4.1f} atoms per face, {numbers['lost']:4.0%} of the variance lost, "
        f"half of an atom's energy in {numbers['extent']:.0%} of the pixels"
    )

# %%
# No: the sparser the codes, the more the atoms are *wholes*, that is typical faces of which a few are
# added. With a small penalty atoms become more local, and without any, as in the factorisation, each face
# is a sum of many atoms, each of which is dark but for some parts. Sparse codes need complete atoms; parts
# need many of them for each sample.

sparse, dense, plain = (report[name] for name in list(models)[1:])
assert sparse["nonzeros"] < dense["nonzeros"] < plain["nonzeros"]
assert sparse["extent"] > dense["extent"] > plain["extent"]
