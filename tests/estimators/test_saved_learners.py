"""A file holds what was learned: it never says where to write, and sets nothing but known attributes."""

import os

import numpy as np
import pytest
import torch

from calepin import (
    ConvolutionalDictionaryLearner,
    DictionaryLearner,
    GenerativeDictionaryLearner,
    UnfoldedDictionaryLearner,
)
from calepin.core.errors import FileFormatError
from calepin.core.files import load_arrays, save_arrays
from calepin.generators import PolynomialSine

LEARNERS = {
    "dictionary": lambda **given: DictionaryLearner(4, alpha=0.1, max_iter=1, random_state=0, **given),
    "unfolded": lambda **given: UnfoldedDictionaryLearner(
        4, n_unfold=2, max_iter=1, random_state=0, learn_step=True, learn_threshold=True, **given
    ),
    "convolutional": lambda **given: ConvolutionalDictionaryLearner(
        2, 4, alpha=0.1, n_unfold=100, max_iter=1, random_state=0, **given
    ),
    "generative": lambda **given: GenerativeDictionaryLearner(
        PolynomialSine(3), max_iter=1, random_state=0, **given
    ),
}


def data(name):
    X = np.random.default_rng(0).standard_normal((20, 12))
    return X[:, None] if name == "convolutional" else X


@pytest.fixture(params=sorted(LEARNERS))
def saved(request, tmp_path):
    """Return a fitted learner, its samples, and its file."""
    X = data(request.param)
    learner = LEARNERS[request.param](checkpoint=tmp_path / "run", checkpoint_seconds=5).fit(X)
    learner.save(tmp_path / "model.safetensors")
    return learner, X, tmp_path / "model.safetensors"


def altered(path, name, **values):
    """Write the file anew, with other values in a part of its header."""
    header = load_arrays(path)[1]
    rewritten(path, **{name: {**header[name], **values}})


def rewritten(path, **entries):
    """Write the file anew, with other entries of its header."""
    from calepin.core.files import read_header

    arrays, header = load_arrays(path)
    save_arrays(path, read_header(path)["kind"], arrays, header | entries)


def test_no_file_says_where_a_fit_writes(saved, tmp_path):
    learner, X, path = saved
    assert "run" not in str(load_arrays(path)[1]["estimator"].values())
    target = tmp_path / "precious.npy"
    np.save(target, X)
    before = target.read_bytes()
    altered(path, "estimator", checkpoint=str(target), resume=True, checkpoint_seconds=0)
    loaded = type(learner).load(path)
    assert (loaded.checkpoint, loaded.resume, loaded.checkpoint_seconds) == (None, False, 60.0)
    loaded.fit(X)
    assert target.read_bytes() == before
    rewritten(path, objects=["checkpoint"])
    assert type(learner).load(path).checkpoint is None
    assert type(learner).load(path, checkpoint=tmp_path / "mine").checkpoint == tmp_path / "mine"


@pytest.mark.parametrize(
    "attribute",
    [
        {"transform": "boom"},
        {"components_": [[1.0]]},
        {"_state": None},
        {"__class__": "int"},
        {"n_iter_": "three"},
        {"n_steps_": -1},
        {"converged_": 1},
        {"history_": {"objective": 1.0}},
        {"history_": [{"objective": "boom"}]},
        {"feature_names_in_": "names"},
        {"feature_names_in_": [1]},
    ],
    ids=str,
)
def test_a_file_sets_known_attributes_of_known_types_only(saved, attribute):
    learner, _, path = saved
    altered(path, "fitted", **attribute)
    with pytest.raises(FileFormatError, match=f"{path}: .*{next(iter(attribute))}"):
        type(learner).load(path)


@pytest.mark.parametrize(
    "entry", [{"fitted": [1]}, {"estimator": "all"}, {"objects": "coder"}, {"objects": [[]]}], ids=str
)
def test_a_header_of_other_types_is_refused(saved, entry):
    learner, _, path = saved
    rewritten(path, **entry)
    with pytest.raises(FileFormatError, match=f"{path}: {next(iter(entry))}: expected"):
        type(learner).load(path)


@pytest.mark.parametrize("components", [np.ones(3), np.eye(4, dtype=int), np.full((4, 12), np.nan)])
def test_atoms_that_no_learner_has_are_refused(tmp_path, components):
    path = tmp_path / "atoms.safetensors"
    save_arrays(path, "dictionary", {"components": components}, {})
    for learner in (DictionaryLearner, UnfoldedDictionaryLearner, ConvolutionalDictionaryLearner):
        with pytest.raises(FileFormatError, match=f"{path}: expected components to be"):
            learner.load(path, **({"n_components": 4} if learner is ConvolutionalDictionaryLearner else {}))


@pytest.mark.parametrize("learned", [{"alpha": np.ones(3)}, {"step_size": np.array([np.nan])}], ids=str)
def test_learned_values_of_another_shape_are_refused(tmp_path, learned):
    path = tmp_path / "atoms.safetensors"
    save_arrays(path, "dictionary", {"components": np.eye(4)} | learned, {})
    with pytest.raises(
        FileFormatError, match=f"{path} is not a readable dictionary: {next(iter(learned))}: expected finite"
    ):
        UnfoldedDictionaryLearner.load(path)


def test_a_file_without_atoms_is_refused(tmp_path):
    save_arrays(tmp_path / "none.safetensors", "dictionary", {"weights": np.eye(2)}, {})
    with pytest.raises(FileFormatError, match="lacks components"):
        DictionaryLearner.load(tmp_path / "none.safetensors")


@pytest.mark.parametrize("device", ["cuda:93", "meta", "nonsense", 7.5])
def test_a_device_that_this_machine_lacks_is_replaced_with_a_warning(saved, device):
    learner, X, path = saved
    altered(path, "estimator", device=device)
    with pytest.warns(UserWarning, match=f"{path} was learned on device {device!r}, which is not available"):
        loaded = type(learner).load(path)
    assert loaded.device is None
    np.testing.assert_array_equal(loaded.transform(X), type(learner).load(path, device=None).transform(X))


def test_a_device_that_this_machine_has_is_kept(saved):
    learner, _, path = saved
    device = "cuda" if torch.cuda.is_available() else "cpu"
    altered(path, "estimator", device=device)
    assert type(learner).load(path).device == device


def test_what_was_learned_is_what_is_loaded(saved):
    learner, X, path = saved
    loaded = type(learner).load(path)
    np.testing.assert_array_equal(loaded.transform(X), learner.transform(X))
    assert (loaded.history_, loaded.n_iter_) == (learner.history_, learner.n_iter_)
    assert os.listdir(path.parent).count("run") == 1
