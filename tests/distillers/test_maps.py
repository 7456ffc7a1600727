"""Methods that compare maps, against slow, loop-by-loop readings of their formulas."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from kd.distillers import at, fitnet, reviewkd, sp
from kd.distillers.base import Distiller, Required, Shapes
from tests.distillers.building import batch_of, cross_entropy, draw, normal, scalar_product, squares, unit

SIZE = 3
LABELS = torch.tensor([0, 3, 1])
STUDENT: Shapes = {"logits": (5,), "L1": (6,), "L2": (4, 2, 2), "L3": (3, 4, 6), "L4": (2, 8, 8)}
TEACHER: Shapes = {"logits": (5,), "L1": (9,), "L2": (5, 1, 2), "L3": (6, 2, 3), "L4": (4, 6, 5)}
Image = list[list[float]]


def loss_of(
    method: Distiller,
    own: dict[str, Tensor],
    wanted: dict[str, Tensor],
    auxiliary: nn.Module | None = None,
    epoch: int = 0,
) -> Tensor:
    return method.loss(own, wanted, batch_of(LABELS, epoch), auxiliary)


def pooled(image: Image, height: int, width: int) -> Image:
    """Means over cells that may overlap by a row or column, as adaptive pooling has them."""

    def cells(old: int, new: int) -> list[range]:
        return [range(i * old // new, math.ceil((i + 1) * old / new)) for i in range(new)]

    return [
        [
            sum(image[y][x] for y in rows for x in columns) / (len(rows) * len(columns))
            for columns in cells(len(image[0]), width)
        ]
        for rows in cells(len(image), height)
    ]


def flat(values: Tensor) -> list[float]:
    numbers: list[float] = values.flatten().tolist()
    return numbers


def squared_error(left: Tensor, right: Tensor) -> float:
    return squares(a - b for a, b in zip(flat(left), flat(right), strict=True)) / left.numel()


def slow_pool(maps: Tensor, height: int, width: int) -> Tensor:
    return torch.tensor(
        [[pooled(channel, height, width) for channel in sample] for sample in maps.tolist()], dtype=maps.dtype
    )


def interpolated(image: Image, height: int, width: int) -> Image:
    """Bilinear between the middles of pixels."""

    def neighbours(place: int, old: int, new: int) -> tuple[int, int, float]:
        middle = max((place + 0.5) * old / new - 0.5, 0)
        return int(middle), min(int(middle) + 1, old - 1), middle - int(middle)

    grown = []
    for y in range(height):
        top, bottom, down = neighbours(y, len(image), height)
        row = []
        for x in range(width):
            left, right, along = neighbours(x, len(image[0]), width)
            upper, lower = (image[each][left] * (1 - along) + image[each][right] * along for each in (top, bottom))
            row.append(upper * (1 - down) + lower * down)
        grown.append(row)
    return grown


def slow_resample(maps: Tensor, height: int, width: int) -> Tensor:
    """Averaged where the grid shrinks, interpolated where it grows in a direction."""
    if height <= maps.shape[2] and width <= maps.shape[3]:
        return slow_pool(maps, height, width)
    return torch.tensor(
        [[interpolated(channel, height, width) for channel in sample] for sample in maps.tolist()], dtype=maps.dtype
    )


both_ways = pytest.mark.parametrize(("student", "teacher"), [(STUDENT, TEACHER), (TEACHER, STUDENT)])


@both_ways
@pytest.mark.parametrize("level", ["L2", "L3", "L4"])
def test_fitnet__equals_slow_reference(student: Shapes, teacher: Shapes, level: str) -> None:
    own, wanted = draw(student, SIZE, 0), draw(teacher, SIZE, 10)
    method = fitnet.Method.model_validate({"level": level, "weight": 7, "label_weight": 2})
    auxiliary = method.auxiliary(student, teacher, samples=10).double()
    assert isinstance(auxiliary, nn.Conv2d)
    assert auxiliary.weight.shape == (teacher[level][0], student[level][0], 1, 1)
    assert auxiliary.bias is not None
    weights, biases = auxiliary.weight.flatten(1).tolist(), auxiliary.bias.tolist()
    regressed = torch.stack(
        [
            sum((weight * own[level][:, channel] for channel, weight in enumerate(row)), torch.zeros(())) + bias
            for row, bias in zip(weights, biases, strict=True)
        ],
        dim=1,
    )
    error = squared_error(slow_resample(regressed, *teacher[level][1:]), wanted[level])
    expected = 7 * error + 2 * cross_entropy(own["logits"], LABELS)
    assert loss_of(method, own, wanted, auxiliary).item() == pytest.approx(expected, rel=1e-9)


def test_fitnet__trains_its_regressor_on_any_grid() -> None:
    own, wanted = draw(TEACHER, SIZE, 0), draw(STUDENT, SIZE, 10)
    method = fitnet.Method(level="L3")
    auxiliary = method.auxiliary(TEACHER, STUDENT, samples=10).double()
    torch.autograd.backward(loss_of(method, own, wanted, auxiliary))
    assert all(each.grad is not None and each.grad.any() for each in auxiliary.parameters())


def slow_attention(maps: Tensor) -> Tensor:
    rows = [unit([squares(place) for place in zip(*map(flat, sample), strict=True)]) for sample in maps]
    return torch.tensor(rows, dtype=maps.dtype)


@both_ways
def test_at__equals_slow_reference(student: Shapes, teacher: Shapes) -> None:
    own, wanted = draw(student, SIZE, 0), draw(teacher, SIZE, 10)
    method = at.Method(levels=("L3", "L4"), weight=7, label_weight=2)
    total = 0.0
    for level in method.levels:
        maps = slow_resample(own[level], *teacher[level][1:])
        total += squared_error(slow_attention(maps), slow_attention(wanted[level]))
    expected = 7 * total + 2 * cross_entropy(own["logits"], LABELS)
    assert loss_of(method, own, wanted).item() == pytest.approx(expected, rel=1e-9)
    assert method.required("L2") == Required(("L3", "L4"))


@pytest.mark.parametrize("level", ["L1", "L2", "L4"])
def test_sp__equals_slow_reference(level: str) -> None:
    own, wanted = draw(STUDENT, SIZE, 0), draw(TEACHER, SIZE, 10)
    method = sp.Method.model_validate({"level": level, "weight": 7, "label_weight": 2})
    left, right = (
        [unit([scalar_product(flat(a), flat(b)) for b in each[level]]) for a in each[level]] for each in (own, wanted)
    )
    total = squares(left[i][j] - right[i][j] for i in range(SIZE) for j in range(SIZE)) / SIZE**2
    expected = 7 * total + 2 * cross_entropy(own["logits"], LABELS)
    assert loss_of(method, own, wanted).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("method", [at.Method(label_weight=0), sp.Method(label_weight=0)])
@pytest.mark.parametrize("factor", [1.0, 0.01, 30.0])
def test_at_sp__are_0_for_a_scaled_teacher(method: Distiller, factor: float) -> None:
    """Scale is normalised away, in float32."""
    wanted = {name: value.float() for name, value in draw(TEACHER, SIZE, 0).items()}
    scaled = {name: factor * value for name, value in wanted.items()}
    assert loss_of(method, scaled, wanted).item() == pytest.approx(0, abs=0 if factor == 1 else 1e-8)


def slow_hierarchy(own: Tensor, wanted: Tensor) -> float:
    weighted, total, weight = squared_error(own, wanted), 1.0, 1.0
    for size in (4, 2, 1):
        if size < min(own.shape[2], own.shape[3]):
            weight = weight / 2
            weighted += weight * squared_error(slow_pool(own, size, size), slow_pool(wanted, size, size))
            total += weight
    return weighted / total


def slow_review(
    auxiliary: nn.ModuleDict, own: dict[str, Tensor], wanted: dict[str, Tensor], levels: list[str]
) -> float:
    """The convolutions are torch's; what is between them is spelt out."""
    total, above = 0.0, None
    for level in levels:  # from deep to shallow
        current = auxiliary[f"{level}_in"](own[level])
        if above is not None:
            height, width = current.shape[2:]
            rows = [y * above.shape[2] // height for y in range(height)]
            columns = [x * above.shape[3] // width for x in range(width)]
            grown = torch.stack([torch.stack([above[:, :, y, x] for x in columns], dim=2) for y in rows], dim=2)
            shares = auxiliary[f"{level}_attention"](torch.cat([current, grown], dim=1))
            current = torch.stack(
                [current[:, c] * shares[:, 0] + grown[:, c] * shares[:, 1] for c in range(current.shape[1])], dim=1
            )
        above = current
        total += slow_hierarchy(
            auxiliary[f"{level}_out"](slow_resample(current, *wanted[level].shape[2:])), wanted[level]
        )
    return total


@pytest.mark.parametrize("levels", [["L2"], ["L3", "L2"], ["L4", "L3", "L2"], ["L3", "L4"]])
@pytest.mark.parametrize(("epoch", "share"), [(0, 0.25), (5, 1.0)])
@both_ways
@torch.no_grad()
def test_reviewkd__equals_slow_reference(
    student: Shapes, teacher: Shapes, levels: list[str], epoch: int, share: float
) -> None:
    own, wanted = draw(student, SIZE, 0), draw(teacher, SIZE, 10)
    method = reviewkd.Method.model_validate({"levels": levels, "weight": 7, "warmup": 4, "label_weight": 2})
    auxiliary = method.auxiliary(student, teacher, samples=10).double()
    assert isinstance(auxiliary, nn.ModuleDict)
    expected = 7 * share * slow_review(auxiliary, own, wanted, sorted(levels)) + 2 * cross_entropy(
        own["logits"], LABELS
    )
    assert loss_of(method, own, wanted, auxiliary, epoch).item() == pytest.approx(expected, rel=1e-9)


def test_reviewkd__parts_have_the_widths_of_both() -> None:
    auxiliary = reviewkd.Method().auxiliary(STUDENT, TEACHER, samples=10)
    shapes = {name: tuple(value.shape) for name, value in auxiliary.state_dict().items() if name.endswith("0.weight")}
    assert shapes == {
        "L2_in.0.weight": (4, 4, 1, 1),
        "L3_in.0.weight": (4, 3, 1, 1),
        "L4_in.0.weight": (4, 2, 1, 1),
        "L3_attention.0.weight": (2, 8, 1, 1),
        "L4_attention.0.weight": (2, 8, 1, 1),
        "L2_out.0.weight": (5, 4, 3, 3),
        "L3_out.0.weight": (6, 4, 3, 3),
        "L4_out.0.weight": (4, 4, 3, 3),
    }
    wide = reviewkd.Method(levels=("L2",)).auxiliary({"L2": (600, 2, 2)}, {"L2": (5, 2, 2)}, samples=10)
    assert wide.state_dict()["L2_in.0.weight"].shape == (512, 600, 1, 1)


def test_reviewkd__trains_all_its_parts() -> None:
    method = reviewkd.Method(warmup=1)
    auxiliary = method.auxiliary(STUDENT, TEACHER, samples=10)
    own, wanted = ({k: v.float() for k, v in draw(each, SIZE, 0).items()} for each in (STUDENT, TEACHER))
    torch.autograd.backward(loss_of(method, own, wanted, auxiliary))
    assert all(each.grad is not None and each.grad.isfinite().all() for each in auxiliary.parameters())


def test_hierarchical_error__is_0_for_equal_maps() -> None:
    maps = normal(0, 2, 3, 9, 7)
    assert reviewkd._hierarchical_error(maps, maps).item() == 0


@pytest.mark.parametrize("method", [at.Method, reviewkd.Method])
def test_levels__stand_once(method: type[Distiller]) -> None:
    with pytest.raises(ValidationError, match="each may stand once"):
        method.model_validate({"levels": ["L2", "L2"]})
