"""A checkpoint costs no run: what cannot be written is said, and nothing but a checkpoint is replaced."""

import errno
import os

import numpy as np
import pytest

from calepin import (
    ConvolutionalDictionaryLearner,
    DictionaryLearner,
    GenerativeDictionaryLearner,
    UnfoldedDictionaryLearner,
    UntrainedReconstructor,
)
from calepin.core.checkpoint import CHECKPOINT_SECONDS, Checkpoint
from calepin.core.files import load_arrays, save_arrays
from calepin.generators import PolynomialSine
from calepin.operators import SubsampledHadamard

X = np.random.default_rng(0).standard_normal((40, 8))


def fit(name, **given):
    """Run a learner of a kind and return what it learned."""
    given |= {"random_state": 0}
    if name == "untrained":
        operator = SubsampledHadamard((1, 8, 8), 40)
        y = np.random.default_rng(0).standard_normal((1, 40)).astype(np.float32)
        return UntrainedReconstructor(operator, max_iter=3, **given).reconstruct(y)
    learners = {
        "dictionary": lambda: DictionaryLearner(4, alpha=0.1, max_iter=2, batch_size=10, **given),
        "unfolded": lambda: UnfoldedDictionaryLearner(4, n_unfold=2, max_iter=2, batch_size=10, **given),
        "convolutional": lambda: ConvolutionalDictionaryLearner(
            2, 3, n_unfold=3, n_init=1, max_iter=2, **given
        ),
        "generative": lambda: GenerativeDictionaryLearner(PolynomialSine(2), max_iter=2, n_starts=1, **given),
    }
    return learners[name]().fit(X[:, None] if name == "convolutional" else X).components_


pytestmark = pytest.mark.filterwarnings("ignore:.*fits have not converged")
LEARNERS = ["dictionary", "unfolded", "convolutional", "generative", "untrained"]


@pytest.fixture
def full(monkeypatch):
    """Let no file be written, as on a full disk."""

    def fail(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)


@pytest.mark.parametrize("name", LEARNERS)
def test_a_full_disk_loses_no_run(name, tmp_path, full):
    path = tmp_path / "run.safetensors"
    expected = fit(name)
    with pytest.warns(RuntimeWarning, match=f"checkpoint: {path} could not be written: No space left"):
        learned = fit(name, checkpoint=path, checkpoint_seconds=0)
    np.testing.assert_array_equal(learned, expected)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", LEARNERS)
@pytest.mark.parametrize("resume", [True, False])
def test_a_checkpoint_replaces_checkpoints_only(name, tmp_path, resume):
    path = tmp_path / "X.npy"
    np.save(path, X)
    before = path.read_bytes()
    # a fit that resumes reads the file first
    with pytest.raises(ValueError, match=r"X.npy"):
        fit(name, checkpoint=path, resume=resume)
    assert path.read_bytes() == before
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match=r"pipe"):
        fit(name, checkpoint=tmp_path / "pipe")


@pytest.mark.parametrize("name", LEARNERS)
def test_the_interval_is_a_parameter(name, tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(Checkpoint, "save", lambda *_: saved.append(1))
    fit(name, checkpoint=tmp_path / "run")
    assert len(saved) == 1  # at the end
    fit(name, checkpoint=tmp_path / "run", checkpoint_seconds=0)
    assert len(saved) > 3
    with pytest.raises(
        ValueError, match="checkpoint_seconds: expected a finite number of at least 0, got -1"
    ):
        fit(name, checkpoint=tmp_path / "run", checkpoint_seconds=-1)
    assert CHECKPOINT_SECONDS == 60


def test_an_interval_without_a_checkpoint_is_refused():
    with pytest.raises(ValueError, match="checkpoint_seconds: expected the default 60.0 with"):
        fit("dictionary", checkpoint_seconds=5)


def test_a_failed_checkpoint_is_not_tried_again_at_every_step(tmp_path, full, monkeypatch):
    file = Checkpoint(tmp_path / "run", "checkpoint", {}, seconds=100)
    monkeypatch.setattr(file, "_saved", file._saved - 1000)
    assert file.is_due()
    with pytest.warns(RuntimeWarning, match="the run continues without it"):
        file.save_or_warn({}, {})
    assert not file.is_due()
    with pytest.raises(OSError, match="No space left"):
        file.save({}, {})


def test_a_checkpoint_is_written_through_a_link(tmp_path):
    (tmp_path / "disk").mkdir()
    os.symlink("disk/run.safetensors", tmp_path / "run")
    fit("dictionary", checkpoint=tmp_path / "run")
    assert os.readlink(tmp_path / "run") == "disk/run.safetensors"
    assert load_arrays(tmp_path / "disk" / "run.safetensors", "checkpoint")


def test_a_dictionary_is_no_checkpoint(tmp_path):
    save_arrays(tmp_path / "atoms", "dictionary", {"components": X}, {})
    with pytest.raises(ValueError, match="checkpoint: expected a new file or a checkpoint of such a run"):
        fit("dictionary", checkpoint=tmp_path / "atoms")


def test_a_second_writer_of_a_checkpoint_is_said(tmp_path):
    first, second = (Checkpoint(tmp_path / "run", "test", {}) for _ in range(2))
    first.save({"z": np.ones(2)}, {})
    first.save({"z": np.ones(2)}, {})  # one's own file is no other's
    with pytest.warns(RuntimeWarning, match="was written by another run"):
        second.save({"z": np.zeros(2)}, {})
    with pytest.warns(RuntimeWarning, match="was written by another run"):
        first.save({"z": np.ones(2)}, {})
