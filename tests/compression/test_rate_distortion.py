import numpy as np
import pytest

from calepin import GenerativeDictionaryLearner
from calepin.compression.rate_distortion import rate_distortion
from calepin.generators import PolynomialSine


@pytest.fixture(scope="module")
def curves():
    rng = np.random.default_rng(0)
    atoms = rng.standard_normal((6, 16)) / 4
    z = rng.standard_normal((300, 2))
    X = 0.5 + 0.05 * np.concatenate([z, z**2, np.sin(z)], 1) @ atoms
    model = GenerativeDictionaryLearner(PolynomialSine(2), init=0.05 * atoms, random_state=0, max_iter=2)
    model.fit(X[:200] - 0.5)

    class Centred:
        components_, generator, latent_dim_ = model.components_, model.generator, model.latent_dim_

        def transform(self, X):
            return model.transform(np.asarray(X) - 0.5)

        def inverse_transform(self, Z):
            return model.inverse_transform(Z) + 0.5

    return rate_distortion(X[200:], Centred(), training=X[:200], bits=(3, 5, 8, 12))


def test_all_contenders_are_there_and_more_bits_are_better(curves):
    assert set(curves) == {"latents", "PCA", "OMP", "JPEG"}
    for curve in curves.values():
        assert len(curve.bits) >= 2
        assert (np.diff(curve.bits) > 0).all()
        assert (np.diff(curve.psnr) > 0).all()


def test_latents_beat_what_does_not_know_the_generator(curves):
    """At the bits of the latents' best point, every other contender is worse."""
    ours = curves["latents"]
    budget, reached = ours.bits[-1], ours.psnr[-1]
    for name in ("PCA", "OMP", "JPEG"):
        within = curves[name].psnr[curves[name].bits <= budget]
        assert not within.size or within.max() < reached


def test_bits_are_counted_after_entropy_coding(curves):
    assert curves["latents"].bits[-1] <= 2 * 16 + 8
