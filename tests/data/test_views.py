"""Views are pure functions of dataset, seed, view and sample id."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from kd.data.draws import DRAWS, draw
from kd.data.modalities.image import Samples, plain
from kd.data.options import Augmentation
from kd.data.views import POLICY_COLUMN, Policy, Views, cutout, resize_images, to_float, warp

ALL = Augmentation(
    crop=(0.5, 1.0),
    ratio=(0.8, 1.25),
    flip=0.5,
    rotation=20,
    shear=10,
    translate=0.1,
    zoom=(0.9, 1.1),
    brightness=0.3,
    contrast=0.3,
    saturation=0.3,
    cutout=0.5,
)
IMAGES = torch.randint(0, 256, (50, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
IDS = np.arange(50)


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(50)), st.integers(1, 50), st.integers(0, 20))
def test_views__do_not_depend_on_order_or_batch_size(order: list[int], size: int, view: int) -> None:
    whole = Views("shared", "toy", 3, ALL)(IMAGES, IDS, view)
    views = Views("shared", "toy", 3, ALL)
    for start in range(0, 50, size):
        rows = np.array(order[start : start + size])
        assert torch.equal(views(IMAGES[rows], IDS[rows], view), whole[rows])


def test_views__differ_by_dataset_seed_view_and_sample() -> None:
    same = IMAGES[:1].expand(50, -1, -1, -1)
    first = Views("shared", "toy", 0, ALL)(same, IDS, 0)
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first, Views("shared", "toy", 0, ALL)(same, IDS, 1))
    assert not torch.equal(first, Views("shared", "toy", 1, ALL)(same, IDS, 0))
    assert not torch.equal(first, Views("shared", "other", 0, ALL)(same, IDS, 0))


def test_views__without_augmentation_are_the_images() -> None:
    expected = IMAGES.permute(0, 3, 1, 2).float() / 255
    assert torch.equal(Views("shared", "toy", 0, None)(IMAGES, IDS, 7), expected)
    torch.testing.assert_close(Views("shared", "toy", 0, Augmentation())(IMAGES, IDS, 7), expected, atol=1e-5, rtol=0)


def test_views__stay_in_range_and_grey_becomes_rgb() -> None:
    out = Views("shared", "toy", 0, ALL)(IMAGES[..., :1], IDS, 0)
    assert out.shape == (50, 3, 16, 16)
    assert 0 <= out.min() <= out.max() <= 1
    assert to_float(IMAGES[..., :1]).shape == (50, 3, 16, 16)


def draws(**columns: float) -> torch.Tensor:
    names = ["rotation", "shear", "zoom", "area", "ratio", "crop_x", "shift_x", "crop_y", "shift_y", "flip"]
    values = torch.full((1, DRAWS), 0.5)
    for name, value in columns.items():
        values[0, names.index(name)] = value
    return values


def test_warp__flips_and_turns() -> None:
    image = torch.rand(1, 3, 16, 16)
    flipped = warp(image, draws(flip=0.0), Augmentation(flip=1.0))
    torch.testing.assert_close(flipped, image.flip(3), atol=1e-5, rtol=0)
    kept = warp(image, draws(flip=0.999), Augmentation(flip=0.5))
    torch.testing.assert_close(kept, image, atol=1e-5, rtol=0)
    half_turn = warp(image, draws(rotation=1.0), Augmentation(rotation=180))
    torch.testing.assert_close(half_turn, image.flip(2, 3), atol=1e-4, rtol=0)


def test_warp__translates_by_the_said_fraction() -> None:
    image = torch.zeros(1, 3, 16, 16)
    image[..., 8, 8] = 1
    moved = warp(image, draws(shift_x=1.0), Augmentation(translate=0.25))
    assert moved[0, 0, 8, 4] == pytest.approx(1, abs=1e-4)


def test_warp__crop_stays_inside_the_image() -> None:
    ones = torch.ones(64, 3, 16, 16)
    random = torch.rand(64, DRAWS, generator=torch.Generator().manual_seed(0))
    cropped = warp(ones, random, Augmentation(crop=(0.2, 0.8), ratio=(0.75, 1.33)))
    # Bilinear sampling reaches half a pixel over the border at most, on the outermost rows and columns.
    torch.testing.assert_close(cropped[:, :, 1:-1, 1:-1], torch.ones(64, 3, 14, 14))


def test_warp__is_the_same_at_every_resolution() -> None:
    """Teachers of other input sizes see the same view: the map works in relative coordinates."""
    small = torch.linspace(0, 1, 32).expand(1, 3, 32, 32)
    large = torch.linspace(0, 1, 64).expand(1, 3, 64, 64)
    options = Augmentation(rotation=15, zoom=(1.5, 1.5))
    turned = torch.nn.functional.avg_pool2d(warp(large, draws(rotation=0.9), options), 2)
    torch.testing.assert_close(turned, warp(small, draws(rotation=0.9), options), atol=0.02, rtol=0)


def cut(images: torch.Tensor, row: float, column: float, colour: tuple[int, int, int], size: float) -> torch.Tensor:
    """One rectangle in all images, placed by fractions of 4096ths."""
    values = torch.full((len(images), DRAWS), 0.999)
    values[:, 14] = (int(row * 4096) * 4096 + int(column * 4096)) / 2**24
    values[:, 15] = (colour[0] * 65536 + colour[1] * 256 + colour[2]) / 2**24
    return cutout(images, values, Augmentation(cutout=size))


def test_cutout__covers_a_rectangle_of_half_the_height_and_width() -> None:
    images = torch.zeros(1, 16, 24, 3, dtype=torch.uint8)
    seen = cut(images, 0.5, 0.5, (255, 7, 80), 0.5)[0]
    expected = images[0].clone()
    expected[4:12, 6:18] = torch.tensor([255, 7, 80], dtype=torch.uint8)
    assert torch.equal(seen, expected)


@pytest.mark.parametrize(("row", "column", "rows", "columns"), [(0, 0, 4, 6), (0.9999, 0.9999, 5, 7), (0, 0.5, 4, 12)])
def test_cutout__is_cut_off_where_the_image_ends(row: float, column: float, rows: int, columns: int) -> None:
    covered = cut(torch.zeros(1, 16, 24, 1, dtype=torch.uint8), row, column, (1, 1, 1), 0.5)[0, :, :, 0]
    assert covered.any(dim=1).sum() == rows
    assert covered.any(dim=0).sum() == columns
    assert covered.sum() == rows * columns


def test_cutout__every_image_has_a_place_and_a_colour_of_its_own() -> None:
    grey = torch.full((1000, 32, 32, 1), 128, dtype=torch.uint8)
    seen = cutout(grey, torch.from_numpy(draw("shared", 0, "toy", 0, np.arange(1000))), Augmentation(cutout=0.25))
    assert seen.shape == (1000, 32, 32, 3)
    covered = (seen != 128).any(dim=3)
    sizes = covered.flatten(1).sum(dim=1)
    assert sizes.min() >= 16  # in a corner a quarter remains
    assert sizes.max() == 64
    share = covered.float().mean(dim=0)
    assert share[4:-4, 4:-4].std() < 0.02  # uniformly placed
    colours = seen.flatten(1, 2).float().sub(128).sum(dim=1).div(sizes[:, None]).add(128)
    assert colours.mean(dim=0) == pytest.approx([127.5] * 3, abs=8)
    assert len({tuple(colour) for colour in colours.round().tolist()}) > 990


def test_cutout__comes_first_and_changes_no_other_number() -> None:
    """So a policy and all geometry and colour act on the covered image as they would on any."""
    both = ALL.model_copy(update={"policy": "randaugment"})
    drawn = draw("shared", 3, "toy", 5, IDS)
    images = Policy(both)(cutout(IMAGES, torch.from_numpy(drawn), both), drawn[:, POLICY_COLUMN])
    expected = Views("shared", "toy", 3, ALL.model_copy(update={"cutout": 0.0}))(images, IDS, 5)
    assert torch.equal(Views("shared", "toy", 3, both)(IMAGES, IDS, 5), expected)


def test_views__of_larger_stored_images_are_cut_from_these() -> None:
    """A crop of half the width shows its columns as they are; of images that are no larger, each column twice."""
    size, cut = (16, 16), Augmentation(crop=(0.25, 0.25))
    stored = torch.arange(32, dtype=torch.uint8).mul(8).expand(6, 32, 32)[..., None]
    ids = np.arange(6)
    seen, enlarged = (Views("shared", "toy", 0, cut, each)(stored, ids, 0) * 255 for each in (size, None))
    assert (seen.shape, enlarged.shape) == ((6, 3, 16, 16), (6, 3, 32, 32))
    for views, step in ((seen, 8), (enlarged, 4)):
        steps = views.diff(dim=3)[..., 2:-2]
        torch.testing.assert_close(steps, torch.full_like(steps, step), atol=0.1, rtol=0)
    plain = Views("shared", "toy", 0, None, size)(stored, ids, 0)
    torch.testing.assert_close(plain, resize_images(to_float(stored), size))


def test_image_samples__store_size_is_what_is_stored() -> None:
    samples = Samples(image_size=16, store_size=(24, 20))
    assert samples.shape(3) == (24, 20, 3)
    assert Samples(image_size=(16, 12)).shape(1) == (16, 12, 1)
    out = np.empty((24, 20, 3), np.uint8)
    samples.decode(Image.new("RGB", (50, 50), "teal"), out)
    assert (out == (0, 128, 128)).all()
    assert plain(samples, torch.from_numpy(out)[None]).shape == (1, 3, 16, 16)
