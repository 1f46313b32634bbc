"""``calepin learn-filters``: filters of signals and counts, and options that do nothing are refused."""

import json

import numpy as np
import pytest

from calepin import ConvolutionalDictionaryLearner
from calepin.cli import main
from calepin.datasets import read_image, simulate_convolutional


@pytest.fixture
def counts(tmp_path):
    data = simulate_convolutional(10, (80,), n_components=2, kernel_size=(16,), n_events=2, offset=-0.5)
    np.save(tmp_path / "counts.npy", data.X[:, 0])
    return tmp_path / "counts.npy"


LEARN = ["--n-components", "2", "--kernel-size", "16", "--likelihood", "binomial", "--trials", "25"]
LEARN += ["--alpha", "5", "--nonnegative", "--max-iter", "2"]


def ran(capsys, *arguments):
    status = main([str(argument) for argument in arguments])
    return status, capsys.readouterr()


def test_filters_go_from_learning_to_an_image(counts, tmp_path, capsys):
    filters, codes = tmp_path / "filters.safetensors", tmp_path / "codes.npz"
    status, said = ran(capsys, "learn-filters", counts, "-o", filters, *LEARN, "--json")
    assert status == 0
    assert json.loads(said.out)["kernel_size"] == [16]
    status, said = ran(capsys, "encode", counts, "--dict", filters, "-o", codes, "--json")
    assert status == 0
    assert json.loads(said.out)["shape"] == [10, 2, 65]
    assert ran(capsys, "decode", codes, "--dict", filters, "-o", tmp_path / "means.npy")[0] == 0
    means, seen = np.load(tmp_path / "means.npy"), np.load(counts)
    assert means.shape == (10, 1, 80)
    assert np.abs(means[:, 0].mean() - seen.mean()) < 0.5
    assert ran(capsys, "show", filters, "-o", tmp_path / "filters.png")[0] == 0
    assert read_image(tmp_path / "filters.png").pixels.std() > 0.01
    for path, word in ((filters, "ConvolutionalDictionaryLearner"), (codes, "nonzeros")):
        status, said = ran(capsys, "info", path)
        assert status == 0
        assert word in said.out


def test_a_length_in_seconds_and_a_rate_are_kept_in_the_file(counts, tmp_path, capsys):
    filters = tmp_path / "filters.safetensors"
    settings = [*LEARN[:2], *LEARN[4:], "--kernel-seconds", "0.16"]
    status, said = ran(capsys, "learn-filters", counts, "-o", filters, *settings)
    assert status == 2
    assert "sampling_rate: expected a number of Hz, because kernel_seconds is given" in said.err
    report = ["--report", tmp_path / "report.html"]
    rate = ["--sampling-rate", "100"]
    status, said = ran(capsys, "learn-filters", counts, "-o", filters, *settings, *rate, *report, "--json")
    assert status == 0
    assert json.loads(said.out)["kernel_size"] == [16]
    assert ran(capsys, "show", filters, "-o", tmp_path / "filters.svg")[0] == 0
    assert "time in the atom (s)" in (tmp_path / "filters.svg").read_text()
    assert "sampling_rate         100" in ran(capsys, "info", filters)[1].out
    status, said = ran(capsys, "learn-filters", counts, "-o", filters, *LEARN, "--kernel-seconds", "1")
    assert status == 2
    assert "--kernel-size: has no effect with --kernel-seconds" in said.err


def test_filters_of_images_are_drawn_as_tiles(tmp_path, capsys, rng):
    np.save(tmp_path / "images.npy", rng.standard_normal((3, 1, 14, 14)))
    filters = tmp_path / "filters.safetensors"
    settings = ["--n-components", "3", "--kernel-size", "5x4", "--max-iter", "1", "--alpha", "0.5"]
    assert ran(capsys, "learn-filters", tmp_path / "images.npy", "-o", filters, *settings)[0] == 0
    status, said = ran(capsys, "show", filters, "-o", tmp_path / "filters.png")
    assert status == 0
    assert "3 filters as patches" in said.out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--kernel-size", "100"], "kernel_size: expected at most the signal's size (80,), got (100,)"),
        (["--kernel-size", "8y8"], "--kernel-size: expected a size"),
        (["--trials", "3"], "X: expected at most the number of trials (3)"),
        (["--trials", "0"], "trials: expected a positive integer"),
        (["--coder", "omp"], "--coder"),
    ],
)
def test_a_wrong_setting_is_one_line(counts, tmp_path, capsys, change, message):
    status, said = ran(capsys, "learn-filters", counts, "-o", tmp_path / "f.safetensors", *LEARN, *change)
    assert status == 2
    assert said.err.count("\n") == 1
    assert message in said.err


def test_learning_goes_on_from_filters_and_takes_their_number_and_size(counts, tmp_path, capsys):
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    assert ran(capsys, "learn-filters", counts, "-o", first, *LEARN)[0] == 0
    counted = ["--likelihood", "binomial", "--trials", "25", "--alpha", "5", "--max-iter", "1"]
    status, said = ran(capsys, "learn-filters", counts, "-o", second, "--init", first, *counted, "--json")
    assert status == 0
    assert (json.loads(said.out)["n_components"], json.loads(said.out)["kernel_size"]) == (2, [16])


@pytest.mark.parametrize(
    ("options", "refused"),
    [
        (["--trials", "3"], "--trials"),
        (["--trials", "3", "--likelihood", "poisson"], "--trials"),
        (["--coder", "bcomp", "--n-nonzero", "2", "--alpha", "1"], "--alpha"),
        (["--coder", "bcomp", "--n-nonzero", "2", "--stride", "2"], "--stride"),
        (["--coder", "exact", "--stride", "1"], "--stride"),
        (["--n-nonzero", "2"], "--n-nonzero"),
        (["--coder", "ista", "--n-nonzero", "2"], "--n-nonzero"),
    ],
)
def test_an_option_that_does_nothing_is_refused_by_name(counts, tmp_path, capsys, options, refused):
    status, said = ran(capsys, "learn-filters", counts, "-o", tmp_path / "f.safetensors", *options)
    assert status == 2
    assert f"Invalid value for {refused}: has " in said.err
    assert not (tmp_path / "f.safetensors").exists()


def test_recorded_signals_are_learned_from_as_in_python(run, tmp_path):
    X = simulate_convolutional(
        6, (200,), n_components=2, kernel_size=(20,), likelihood="gaussian", noise=0.3
    ).X + np.linspace(0, 5, 200)
    X[0, 0, 50:60] = np.nan
    np.save(tmp_path / "x.npy", X)
    common = [str(tmp_path / "x.npy"), "-o", str(tmp_path / "f.safetensors"), "--force", "--json"]
    sizes = ["--n-components", "2", "--kernel-size", "20", "--max-iter", "2", "--seed", "0"]
    given = ["--alpha-scaled", "0.2", "--detrend", "50", "--robust", "none", "--n-init", "2", "--rank", "1"]
    assert run("learn-filters", *common, *sizes, *given)[0] == 0
    mine = ConvolutionalDictionaryLearner.load(tmp_path / "f.safetensors")
    other = ConvolutionalDictionaryLearner(
        2, 20, alpha_scaled=0.2, detrend=50, robust=None, n_init=2, max_iter=2, random_state=0
    ).fit(X)
    np.testing.assert_allclose(mine.components_, other.components_, atol=1e-12)
    assert mine.alpha_ == other.alpha_
    assert (mine.detrend, mine.robust) == (50, None)
    for option, value in (("--detrend", "spline"), ("--robust", "much")):
        status, _, said = run("learn-filters", *common, *sizes, option, value)
        assert status == 2
        assert f"{option}: expected" in said
