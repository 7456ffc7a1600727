"""Random streams: of a purpose each, whatever the seed."""

from __future__ import annotations

from itertools import combinations
from typing import get_args

import numpy as np
import pytest
import torch

from kd.common.streams import Purpose, generator, torch_seed

PURPOSES: tuple[Purpose, ...] = get_args(Purpose)


def test_streams__each_purpose_and_key_has_its_own() -> None:
    keys: list[tuple[int | str, ...]] = [
        (0, 0),
        (0, 1),
        (1, 0),
        (0,),
        (0, 0, 0),
        ("0", 0),
        (10, 0),
        (1, "00"),
        (2**64,),
    ]
    found = [(generator(purpose, *key).random(4), torch_seed(purpose, *key)) for purpose in PURPOSES for key in keys]
    for (one, first), (other, second) in combinations(found, 2):
        assert first != second
        assert not np.isclose(one, other).any()


@pytest.mark.parametrize("seed", [0, 18_283, 20_261_126, 2**63, 2**64 - 1, 2**100])
def test_streams__any_seed_will_do_and_gives_the_same_again(seed: int) -> None:
    assert np.array_equal(generator("order", seed, 3).random(4), generator("order", seed, 3).random(4))
    drawn = torch_seed("step", seed, 3)
    assert drawn == torch_seed("step", seed, 3)
    assert torch.Generator().manual_seed(drawn).initial_seed() == drawn
