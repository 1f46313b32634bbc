"""In notebooks, results and learners show their atoms and images, small, escaped, and never fail."""

import numpy as np
import pytest
from sklearn.utils import estimator_html_repr
from test_page import Page

import calepin
from calepin.datasets import GaussianNoise
from calepin.estimators import _base
from calepin.reconstruction import reconstruct_scan, scan_image
from calepin.report import notebook


def images(html):
    page = Page(html)
    found = page.of("img")
    assert all(image["src"].startswith("data:image/png") and image["alt"] for image in found)
    return [image["alt"] for image in found]


def test_a_fitted_learner_keeps_the_html_of_scikit_learn_and_adds_its_atoms(rng):
    learner = calepin.DictionaryLearner(4, alpha=0.1, max_iter=2, random_state=0)
    before = learner._repr_html_()
    assert "<img" not in before
    learner.fit(rng.standard_normal((30, 16)))
    html = learner._repr_html_()
    assert "4 atoms" in images(html[html.rindex('<div class="calepin">') :])
    assert "objective" in html
    assert "sk-estimator" in html
    assert learner._repr_mimebundle_()["text/html"].count("data:image/png") == 1
    assert "data:image/png" not in estimator_html_repr(learner)  # of a pipeline, for example


def test_a_learner_without_history_or_with_odd_atoms_has_html_too(rng, monkeypatch):
    filters = rng.standard_normal((2, 1, 9))
    learner = calepin.ConvolutionalDictionaryLearner.from_components(filters)
    assert "2 atoms" in learner._repr_html_()
    learner.components_ = np.full((2, 1, 9), np.nan)
    assert "<img" not in learner._repr_html_()
    assert "sk-estimator" in learner._repr_html_()
    assert hasattr(_base, "BaseLearner")


@pytest.mark.parametrize(
    ("shape", "count"),
    [((5000, 64), "100"), ((5000, 50), "12"), ((400, 1, 30), "12"), ((400, 1, 4, 4), "100")],
)
def test_the_number_of_atoms_shown_is_bounded(rng, shape, count):
    (caption,) = notebook.atoms_snippet(rng.standard_normal(shape))
    assert caption == f"the first {count} of {shape[0]} atoms"


def test_atoms_that_cannot_be_drawn_are_left_out():
    assert notebook.atoms_snippet(np.ones((2, 100_000))) == {}
    assert notebook.atoms_snippet(np.ones((2, 1, 3, 3, 3))) == {}


def test_a_snippet_is_escaped():
    html = notebook.snippet("<b>", {"<i>": "<script>"}, {'"><u>': np.eye(4)})
    page = Page(html)
    assert {tag for tag, _ in page.tags} == {"div", "strong", "figure", "img", "figcaption"}
    assert page.of("img")[0]["alt"] == '"><u>'


@pytest.mark.parametrize("shape", [(600, 1000), (40, 30, 3)])
def test_an_image_is_made_small_and_shown_at_its_own_range(rng, shape):
    shown = notebook.image_snippet(1000 + 500 * rng.random(shape))
    assert max(shown.shape) <= 480
    assert 0 <= shown.min() < 0.1
    assert 0.9 < shown.max() <= 1


def test_results_show_their_images(rng):
    image = rng.random((24, 24))
    result = calepin.DenoiseResult(image, GaussianNoise(0.1), rng.standard_normal((3, 16)))
    assert images(result._repr_html_()) == ["denoised image", "3 atoms"]
    assert "GaussianNoise" in result._repr_html_()
    scan = scan_image(calepin.datasets.load_sample("camera"), ratio=0.5, size=16)
    found = reconstruct_scan(scan, max_iter=2, n_starts=1, random_state=0)
    assert images(found._repr_html_()) == ["adjoint", "image"]
    assert found.residuals.shape == (3, 1)
