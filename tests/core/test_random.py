import numpy as np
import pytest
import torch

from calepin.core.random import numpy_generator, randn, torch_generator


@pytest.mark.parametrize(
    "make", [lambda: 3, lambda: np.random.default_rng(3), lambda: np.random.RandomState(3)]
)
def test_one_seed_gives_one_stream(make):
    assert numpy_generator(make()).random() == numpy_generator(make()).random()
    one, other = (torch.rand(4, generator=torch_generator(make())) for _ in range(2))
    assert torch.equal(one, other)


def test_none_gives_a_fresh_stream():
    assert numpy_generator(None).random() != numpy_generator(None).random()
    assert torch_generator(None).initial_seed() != torch_generator(None).initial_seed()


def test_generators_are_passed_through_and_move_on():
    generator = np.random.default_rng(0)
    assert numpy_generator(generator) is generator
    assert torch_generator(generator).initial_seed() != torch_generator(generator).initial_seed()
    ours = torch.Generator()
    assert torch_generator(ours) is ours


def test_global_random_states_are_left_alone():
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    for seed in (0, None):
        randn((3,), like=torch.empty(0), generator=torch_generator(seed))
        numpy_generator(seed).random()
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


def test_numbers_take_the_dtype_of_their_model():
    like = torch.empty(0, dtype=torch.complex128)
    assert randn((2, 3), like=like, generator=torch_generator(0)).dtype == torch.complex128


@pytest.mark.parametrize("bad", ["abc", -1, 1.5])
def test_what_is_no_seed_is_named(bad):
    with pytest.raises(ValueError, match="random_state: expected None, an integer of at least 0, or"):
        numpy_generator(bad)
