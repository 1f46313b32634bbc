import numpy as np
import pytest
import torch

from calepin import GenerativeDictionaryLearner
from calepin.compression import Quantiser, compress, decompress, read_clp, write_clp
from calepin.compression.clp import model_hash
from calepin.core.errors import FileFormatError
from calepin.generators import PolynomialSine


@pytest.fixture(scope="module")
def model():
    rng = np.random.default_rng(0)
    atoms = rng.standard_normal((6, 12))
    z = rng.standard_normal((80, 2))
    X = np.concatenate([z, z**2, np.sin(z)], 1) @ atoms
    return GenerativeDictionaryLearner(PolynomialSine(2), init=atoms, random_state=0, max_iter=2).fit(X)


@pytest.fixture(scope="module")
def data(model):
    rng = np.random.default_rng(1)
    return model.inverse_transform(rng.standard_normal((40, 2))).reshape(40, 3, 4)


@pytest.mark.parametrize("how", [{}, {"digits": 0}, {"digits": 6}, {"bits": 1}, {"bits": 7}, {"bits": 24}])
def test_what_comes_back_is_made_of_exactly_the_rounded_latents(model, data, how):
    latents = model.transform(data.reshape(40, -1).astype(np.float64))
    quantiser = Quantiser.fit(latents, **how)
    rounded = quantiser.decode(quantiser.encode(latents))
    restored = decompress(compress(data, model, **how), model)
    assert restored.shape == data.shape
    assert restored.dtype == data.dtype
    np.testing.assert_array_equal(restored, model.inverse_transform(rounded).reshape(40, 3, 4))


def test_four_digits_are_the_default_and_nearly_lossless(model, data):
    assert compress(data, model) == compress(data, model, digits=4)
    error = np.linalg.norm(decompress(compress(data, model), model) - data) / np.linalg.norm(data)
    assert error < 1e-3


def test_numbers_of_numpy_are_numbers(model, data):
    assert compress(data, model, digits=np.int64(3)) == compress(data, model, digits=3)
    assert compress(data, model, bits=np.int32(6)) == compress(data, model, bits=6)


def test_fewer_bits_make_smaller_files_and_larger_errors(model, data):
    sizes, errors = [], []
    for bits in (3, 8, 16):
        content = compress(data, model, bits=bits)
        sizes.append(len(content))
        errors.append(np.linalg.norm(decompress(content, model) - data))
    assert sizes == sorted(sizes)
    assert errors == sorted(errors, reverse=True)


def test_a_saved_model_decompresses_what_the_fitted_one_compressed(model, data, tmp_path):
    model.save(tmp_path / "m.safetensors")
    again = GenerativeDictionaryLearner.load(tmp_path / "m.safetensors")
    assert model_hash(again) == model_hash(model)
    size = write_clp(tmp_path / "a.clp", data, model)
    assert (tmp_path / "a.clp").stat().st_size == size
    np.testing.assert_array_equal(
        read_clp(tmp_path / "a.clp", again), decompress(compress(data, model), model)
    )


def test_a_function_as_generator_counts_by_what_it_makes(model):
    def twins():
        for factor in (1.0, 1.0, 1.1):
            twin = GenerativeDictionaryLearner(
                lambda z, f=factor: torch.cat([z, z**2, torch.sin(f * z)], 1), latent_dim=2
            )
            twin.components_, twin.latent_dim_ = model.components_, 2
            yield model_hash(twin)

    one, same, other = twins()
    assert one == same != other


def test_another_model_is_refused(model, data):
    other = GenerativeDictionaryLearner(PolynomialSine(2), random_state=1, max_iter=1).fit(
        data.reshape(40, -1)
    )
    with pytest.raises(
        ValueError, match=r"model: expected the one content was compressed with, [0-9a-f]{12}"
    ):
        decompress(compress(data, model), other)


def test_truncated_and_altered_files_are_refused_wherever_the_damage_is(model, data, tmp_path):
    content = compress(data, model)
    path = tmp_path / "a.clp"
    for damaged in (
        *(content[:n] for n in (4, 30, len(content) // 2, len(content) - 1)),
        *(content[:i] + bytes([content[i] ^ 1]) + content[i + 1 :] for i in range(4, len(content), 7)),
        content + b"0",
    ):
        path.write_bytes(damaged)
        with pytest.raises(FileFormatError, match=r"a\.clp is truncated or was altered"):
            read_clp(path, model)


def test_other_files_and_versions_are_named(model, tmp_path):
    path = tmp_path / "a.clp"
    path.write_bytes(b"\x93NUMPY" + bytes(100))
    with pytest.raises(FileFormatError, match=r"a\.clp is not a \.clp file"):
        read_clp(path, model)
    path.write_bytes(b"CLP9" + bytes(100))
    with pytest.raises(FileFormatError, match=r"version b'9', this calepin reads b'1'"):
        read_clp(path, model)
    with pytest.raises(FileNotFoundError, match=r"no such file: .*gone\.clp"):
        read_clp(tmp_path / "gone.clp", model)


@pytest.mark.parametrize(
    ("X", "how", "message"),
    [
        (np.zeros(12), {}, "X: expected real numbers of shape"),
        (np.zeros((0, 12)), {}, "X: expected real numbers of shape"),
        (np.zeros((3, 5)), {}, "X: expected 12 features per sample, those of the model, got 5"),
        (np.full((3, 12), np.nan), {}, "X: expected finite"),
        (np.zeros((3, 12), complex), {}, "X: expected real numbers"),
        (np.ones((3, 12)), {"digits": -1}, "digits: expected an integer from 0 to 15 or None, got -1"),
        (np.ones((3, 12)), {"digits": 2.5}, "digits: expected an integer from 0 to 15"),
        (np.ones((3, 12)), {"bits": 0}, "bits: expected an integer from 1 to 32 or None, got 0"),
        (
            np.ones((3, 12)),
            {"digits": 3, "bits": 3},
            "digits: expected a number of digits or of bits, got 3 and 3",
        ),
    ],
)
def test_what_cannot_be_compressed_is_named(model, X, how, message):
    with pytest.raises(ValueError, match=message):
        compress(X, model, **how)
