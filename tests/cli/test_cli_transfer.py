"""``calepin transfer``: a new layer on a known generator explains new samples."""

import inspect
import json

import numpy as np
import pytest

from calepin import GenerativeDictionaryLearner
from calepin.networks import open_generator


def test_it_learns_a_layer_that_explains_new_samples(transferred):
    model = GenerativeDictionaryLearner.load(transferred / "model.safetensors")
    X = np.load(transferred / "test.npy").reshape(40, -1)
    error = np.linalg.norm(model.inverse_transform(model.transform(X)) - X) / np.linalg.norm(X)
    assert error < 0.5


@pytest.mark.filterwarnings("ignore::calepin.estimators.generative.UnderdeterminedWarning")
def test_options_are_the_learners_parameters(transferred, run):
    np.save(transferred / "few.npy", np.load(transferred / "new.npy")[:20])
    out_path = transferred / "few.safetensors"
    options = ["--n-starts", 2, "--prior", 0.1, "--max-iter", 1, "--seed", 5]
    arguments = ["-g", "vae-digits", "--data", transferred / "few.npy", "-o", out_path]
    learner = GenerativeDictionaryLearner(
        open_generator("vae-digits"), n_starts=2, prior=0.1, max_iter=1, random_state=5
    ).fit(np.load(transferred / "few.npy").reshape(20, -1))
    status, out, err = run("transfer", *arguments, *options, "--json")
    assert (status, err) == (0, "")
    assert json.loads(out)["n_passes"] == 1
    again = GenerativeDictionaryLearner.load(out_path)
    np.testing.assert_array_equal(again.components_, learner.components_)


def test_defaults_are_the_learners(run):
    words = " ".join(run("transfer", "--help")[1].split())
    signature = inspect.signature(GenerativeDictionaryLearner).parameters
    for option, name in (("--n-starts", "n_starts"), ("--prior", "prior"), ("--max-iter", "max_iter")):
        shown = words[words.index(f"{option} ") :].split("[default: ")[1].split("]")[0]
        assert shown == str(signature[name].default)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"-g": "vae-cats"}, "vae-digits"),
        ({"-g": "bsd-gaussian"}, "generator: expected a VAE or a generator, got bsd-gaussian"),
        ({"-o": "m.npy"}, "ends in .safetensors"),
        ({"--data": "gone.npy"}, "no such file"),
        ({"--n-starts": "0"}, "n_starts: expected a positive integer"),
        ({"--max-iter": "0"}, "max_iter: expected a positive integer"),
    ],
)
def test_what_goes_wrong_is_one_line(transferred, run, monkeypatch, changed, message):
    monkeypatch.chdir(transferred)
    options = {"-g": "vae-digits", "--data": "new.npy", "-o": "m.safetensors"} | changed
    status, out, err = run("transfer", *(word for pair in options.items() for word in pair))
    assert status == 2
    assert message in err
    assert err.count("\n") == 1
    assert not out
    assert not (transferred / "m.safetensors").exists()


@pytest.mark.filterwarnings("ignore::calepin.estimators.UnderdeterminedWarning")
def test_a_report_shows_the_layer_and_the_numbers_of_json(transferred, tmp_path, run):
    page = tmp_path / "r.html"
    data, model = transferred / "new.npy", tmp_path / "m.safetensors"
    status, out, _ = run(
        "transfer",
        "-g",
        "vae-digits",
        "--data",
        data,
        "-o",
        model,
        "--max-iter",
        "1",
        "--report",
        page,
        "--json",
    )
    assert status == 0
    text, printed = page.read_text(), json.loads(out)
    assert f"{printed['objective']:.6g}" in text
    assert f"determine {printed['directions_determined']} of its {printed['directions']} directions" in text
    assert text.count("<img") == 3
    assert printed["written"] == [str(model), str(page)]
