"""``calepin compress`` and ``decompress``: what comes back is made of the rounded latents."""

import json

import numpy as np

from calepin import GenerativeDictionaryLearner


def test_what_comes_back_is_made_of_the_rounded_latents(transferred, run):
    data, model_path, file = (transferred / name for name in ("test.npy", "model.safetensors", "a.clp"))
    status, out, _ = run("compress", data, "--model", model_path, "-o", file, "--json")
    said = json.loads(out)
    assert status == 0
    assert said["n_bytes"] == file.stat().st_size
    assert said["ratio"] > 1
    status, out, _ = run("decompress", file, "--model", model_path, "-o", transferred / "b.npy")
    assert status == 0
    assert "40 x 8 x 8" in out
    model = GenerativeDictionaryLearner.load(model_path)
    X = np.load(data)
    latents = np.round(model.transform(X.reshape(40, -1)).astype(np.float64), 4)
    expected = model.inverse_transform(latents).reshape(40, 8, 8).astype(X.dtype)
    np.testing.assert_array_equal(np.load(transferred / "b.npy"), expected)
    error = np.linalg.norm(expected - X) / np.linalg.norm(X)
    assert abs(said["relative_error"] - error) < 1e-6


def test_fewer_bits_make_a_smaller_file(transferred, run):
    sizes = []
    for option in (["--digits", 6], [], ["--bits", 5]):
        out = run(
            "compress", transferred / "test.npy", "-m", transferred / "model.safetensors", "-o",
            transferred / "sizes.clp", "--json", *option,
        )[1]  # fmt: skip
        sizes.append(json.loads(out)["n_bytes"])
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == 3


def test_the_rate_distortion_curve_is_drawn_beside_its_peers(transferred, run):
    status, out, _ = run(
        "compress", transferred / "test.npy", "-m", transferred / "model.safetensors", "-o",
        transferred / "c.clp", "--bits", 5, "--rate-distortion", transferred / "curve.png", "--training",
        transferred / "new.npy", "--json",
    )  # fmt: skip
    assert status == 0
    assert set(json.loads(out)["rate_distortion"]) == {"latents", "PCA", "OMP", "JPEG"}
    assert (transferred / "curve.png").stat().st_size > 1000


def test_it_says_where_principal_components_would_be_smaller(transferred, run):
    rng = np.random.default_rng(0)
    line = rng.random((40, 1)) * np.linspace(0, 1, 64)  # one component explains all
    np.save(transferred / "line.npy", line.reshape(40, 8, 8).astype(np.float32))
    arguments = ["-m", transferred / "model.safetensors", "-o", transferred / "line.clp"]
    status, out, _ = run("compress", transferred / "line.npy", *arguments)
    assert status == 0
    assert "principal components of these samples would need" in out
    out = run("compress", transferred / "line.npy", *arguments, "--json")[1]
    said = json.loads(out)
    needed = float(said["principal_components"].split()[0])
    assert needed < said["n_bytes"] / 4


def test_what_goes_wrong_is_one_line(transferred, run):
    (transferred / "cut.clp").write_bytes(b"CLP1" + bytes(50))
    np.save(transferred / "flat.npy", np.ones(5))
    new, model, back, file = (
        transferred / name for name in ("new.npy", "model.safetensors", "d.npy", "d.clp")
    )
    for arguments, message in (
        (["decompress", transferred / "cut.clp", "-m", model, "-o", back], "truncated"),
        (["decompress", new, "-m", model, "-o", back], "not a .clp"),
        (["compress", transferred / "flat.npy", "-m", model, "-o", file], "n_samples"),
        (["compress", new, "-m", model, "-o", transferred / "d.txt"], "ends in .clp"),
        (["compress", new, "-m", new, "-o", file], "new.npy"),
        (["compress", new, "-m", model, "-o", file, "--training", new], "Invalid value for --training: "),
        (["compress", new, "-m", model, "-o", file, "--bits", 5, "--digits", 3], "digits: expected"),
    ):
        status, out, err = run(*arguments)
        assert status == 2, arguments
        assert message in err
        assert err.count("\n") == 1
        assert not out
    assert not back.exists()
    assert not file.exists()
