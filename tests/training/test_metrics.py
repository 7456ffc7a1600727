"""Metrics against scikit-learn, against loops that follow the definitions, and at their edges."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from kd.common.errors import UserError
from kd.data.options import Task
from kd.training.metrics import (
    MULTI_LABEL_METRICS,
    PRIMARY,
    average_precisions,
    f1_scores,
    mean_average_precision,
    measure,
    metric_rows,
    primary,
    topk_accuracy,
)

Predictions = tuple[np.ndarray, np.ndarray]

FEW = st.sampled_from([-100.0, -1.5, -0.25, 0.0, 0.25, 1.5, 100.0])  # ties are common
MANY = st.floats(-100, 100, width=32)


@st.composite
def predictions(draw: st.DrawFn) -> Predictions:
    """Logits (N, classes) float32 and labels of 0 and 1; classes and images without labels come up."""
    shape = draw(st.tuples(st.integers(1, 12), st.integers(1, 6)))
    logits = draw(arrays.arrays(np.float32, shape, elements=draw(st.sampled_from([FEW, MANY]))))
    labels = draw(arrays.arrays(np.int64, shape, elements=st.integers(0, 1)))
    return logits, labels


def tensors(logits: np.ndarray, labels: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(logits), torch.from_numpy(labels)


def zero_for_nothing(score: Callable[..., float], *arguments: object, **options: object) -> float:
    """A score of scikit-learn that is 0 where it would be 0 / 0."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(score(*arguments, zero_division=0, **options))


def average_precision_by_hand(scores: list[float], positive: list[int]) -> float:
    """Percent: walk down the thresholds, add the precision at each times what recall gains there."""
    total, recall = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        found = [each for score, each in zip(scores, positive, strict=True) if score >= threshold]
        gained = sum(found) / sum(positive)
        total += (gained - recall) * sum(found) / len(found)
        recall = gained
    return 100 * total


def labels_at_k(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Image by image: what is strictly above the (k + 1)-th largest logit, where k is the number of its labels."""
    predicted = np.zeros_like(labels)
    for image, (scores, own) in enumerate(zip(logits, labels, strict=True)):
        beyond = sorted(scores.tolist(), reverse=True)[own.sum() :]
        predicted[image] = [not beyond or score > beyond[0] for score in scores.tolist()]
    return predicted


@settings(deadline=None)
@given(predictions())
def test_average_precisions__like_scikit_learn_and_by_hand(drawn: Predictions) -> None:
    logits, labels = drawn
    found = average_precisions(*tensors(logits, labels))
    assert found.shape == (labels.shape[1],)
    for label, precision in enumerate(found):
        scores, positive = logits[:, label], labels[:, label]
        if not positive.any():
            assert np.isnan(precision)
            continue
        assert precision == pytest.approx(100 * sklearn_metrics.average_precision_score(positive, scores))
        assert precision == pytest.approx(average_precision_by_hand(scores.tolist(), positive.tolist()))


@settings(deadline=None)
@given(predictions())
def test_f1_scores__like_scikit_learn(drawn: Predictions) -> None:
    logits, labels = drawn
    found = f1_scores(*tensors(logits, labels))
    known = labels.any(axis=0)
    at_half = (logits >= 0).astype(int)
    at_k = labels_at_k(logits, labels)
    for name, predicted in (("OF1", at_half), ("OF1@k", at_k)):
        expected = zero_for_nothing(sklearn_metrics.f1_score, labels.ravel(), predicted.ravel())
        assert found[name] == pytest.approx(100 * expected), name
    if not known.any():
        assert found["CF1"] == found["CF1@k"] == 0
        return
    classes = np.flatnonzero(known)
    precision, recall, f1 = (
        np.mean([zero_for_nothing(score, labels[:, each], predicted[:, each]) for each in classes])
        for score, predicted in (
            (sklearn_metrics.precision_score, at_half),
            (sklearn_metrics.recall_score, at_half),
            (sklearn_metrics.f1_score, at_k),
        )
    )
    together = precision + recall
    assert found["CF1"] == pytest.approx(100 * 2 * precision * recall / together if together else 0)
    assert found["CF1@k"] == pytest.approx(100 * f1)


@settings(deadline=None)
@given(predictions())
def test_measure__is_always_a_percentage(drawn: Predictions) -> None:
    scores = measure("multi_label", *tensors(*drawn))
    assert tuple(scores) == MULTI_LABEL_METRICS
    assert all(0 <= value <= 100 + 1e-9 for value in scores.values())


@settings(deadline=None)
@given(predictions(), st.integers(0, 1000))
def test_measure__ignores_the_order_of_images_and_of_classes(drawn: Predictions, seed: int) -> None:
    logits, labels = drawn
    generator = np.random.default_rng(seed)
    images, classes = (generator.permutation(size) for size in labels.shape)
    expected = measure("multi_label", *tensors(logits, labels))
    shuffled = measure("multi_label", *tensors(logits[images][:, classes], labels[images][:, classes]))
    assert shuffled == pytest.approx(expected)


def test_f1_scores__at_k_without_ties_precision_recall_and_f1_are_one() -> None:
    generator = np.random.default_rng(0)
    labels = (generator.random((200, 9)) < 0.3).astype(np.int64)
    logits = (generator.normal(size=labels.shape) + labels).astype(np.float32)
    at_k = labels_at_k(logits, labels)
    assert (at_k.sum(axis=1) == labels.sum(axis=1)).all()
    scores = f1_scores(*tensors(logits, labels))
    share = 100 * (at_k & labels).sum() / labels.sum()
    assert scores["OF1@k"] == pytest.approx(share)
    assert len({round(value, 3) for value in scores.values()}) == 4  # four different things


def test_measure__of_perfect_and_of_perfectly_wrong_predictions() -> None:
    labels = torch.tensor([[1, 0, 0], [0, 1, 1], [1, 1, 0]])
    right, wrong = ((200.0 * labels - 100) * sign for sign in (1, -1))
    assert set(measure("multi_label", right, labels).values()) == {100.0}
    assert measure("multi_label", wrong, labels)["OF1"] == 0


def test_measure__classes_without_positives_count_for_nothing_in_class_means() -> None:
    labels = torch.tensor([[1, 0], [0, 0]])
    logits = torch.tensor([[2.0, -1.0], [-2.0, 3.0]])
    scores = measure("multi_label", logits, labels)
    assert scores["mAP"] == scores["CF1"] == scores["CF1@k"] == scores["OF1@k"] == 100
    assert scores["OF1"] == pytest.approx(100 * 2 / 3)  # the wrong label counts over all labels


def test_measure__classes_that_are_never_predicted_have_precision_0() -> None:
    labels = torch.tensor([[1, 1], [1, 0]])
    logits = torch.tensor([[1.0, -1.0], [1.0, -1.0]])
    assert measure("multi_label", logits, labels)["CF1"] == pytest.approx(50)


def test_measure__nothing_to_find_is_0() -> None:
    scores = measure("multi_label", torch.tensor([[-1.0, 1.0]]), torch.zeros(1, 2))
    assert set(scores.values()) == {0.0}


def test_measure__a_single_image_with_all_labels() -> None:
    scores = measure("multi_label", torch.tensor([[3.0, -100.0]]), torch.ones(1, 2))
    assert scores["mAP"] == scores["OF1@k"] == scores["CF1@k"] == 100
    assert scores["OF1"] == pytest.approx(100 * 2 / 3)


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool, torch.float32])
def test_measure__labels_of_any_type(dtype: torch.dtype) -> None:
    labels = torch.tensor([[1, 0], [0, 1], [1, 1]])
    logits = torch.tensor([[0.5, 1.0], [-1.0, 2.0], [0.1, -0.2]])
    assert measure("multi_label", logits, labels.to(dtype)) == measure("multi_label", logits, labels)


def test_primary__is_one_of_the_metrics_of_the_task() -> None:
    torch.manual_seed(0)
    logits = torch.randn(50, 7)
    several, single = (torch.rand(50, 7) < 0.3).long(), torch.randint(7, (50,))
    labels: dict[Task, torch.Tensor] = {"multi_label": several, "single_label": single}
    for task, each in labels.items():
        assert primary(task, logits, each) == measure(task, logits, each)[PRIMARY[task]]
    assert primary("single_label", logits, single) == topk_accuracy(logits, single, 1)
    assert primary("multi_label", logits, several) == mean_average_precision(logits, several)


def test_metric_rows__of_a_multi_label_dataset_have_a_row_for_each_class() -> None:
    labels = torch.tensor([[1, 0], [0, 0], [1, 0]])
    logits = torch.tensor([[0.5, 1.0], [2.0, 2.0], [0.1, -0.2]])
    rows = metric_rows("multi_label", "scenes", "last", ["cat", "dog"], logits, labels)
    assert [row["metric"] for row in rows] == [*MULTI_LABEL_METRICS, "AP", "AP"]
    assert {(row["dataset"], row["selection"]) for row in rows} == {("scenes", "last")}
    cat, dog = rows[-2:]
    assert cat["class"] == "cat"
    assert cat["value"] == pytest.approx(100 * (1 / 2 + 2 / 3) / 2)
    assert dog["value"] is None
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows


@pytest.mark.parametrize("seed", range(5))
def test_measure__map_of_single_label_data_is_that_of_softmax_over_the_classes_there_are(seed: int) -> None:
    generator = np.random.default_rng(seed)
    classes = int(generator.integers(1, 9))
    logits = generator.normal(scale=3, size=(40, classes)).astype(np.float32)
    labels = generator.integers(0, max(1, classes - 2), 40)  # of the last two classes there is nothing
    powers = np.exp(logits.astype(np.float64))
    probabilities = powers / powers.sum(axis=1, keepdims=True)
    expected, by_hand = [], []
    for each in sorted({*labels.tolist()}):
        scores, positive = probabilities[:, each], labels == each
        expected.append(100 * sklearn_metrics.average_precision_score(positive, scores))
        by_hand.append(average_precision_by_hand(scores.tolist(), positive.astype(int).tolist()))
    assert expected == pytest.approx(by_hand)
    assert measure("single_label", *tensors(logits, labels))["mAP"] == pytest.approx(np.mean(expected))


def test_measure__map_of_single_label_data_tells_sure_answers_apart() -> None:
    """Both are 1 as a softmax in float32, but the second is the surer one."""
    logits = torch.tensor([[20.0, 0.0], [30.0, 0.0], [0.0, 9.0]])
    assert measure("single_label", logits, torch.tensor([1, 0, 1]))["mAP"] == pytest.approx(100)


def test_metric_rows__of_a_single_label_dataset() -> None:
    logits = torch.tensor([[0.5, 1.0], [2.0, 1.0]])
    rows = metric_rows("single_label", "digits", "last", ["cat", "dog"], logits, torch.tensor([1, 1]))
    assert rows == [
        {"dataset": "digits", "selection": "last", "metric": "acc@1", "value": 50.0},
        {"dataset": "digits", "selection": "last", "metric": "acc@5", "value": 100.0},
        {"dataset": "digits", "selection": "last", "metric": "mAP", "value": 100.0},
    ]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("task", list(PRIMARY))
def test_measure__refuses_logits_that_are_not_finite(task: Task, value: float) -> None:
    logits = torch.zeros(4, 3)
    logits[2, 1] = value
    labels = torch.tensor([0, 1, 2, 1]) if task == "single_label" else torch.eye(4, 3, dtype=torch.uint8)
    for function in (measure, primary):
        with pytest.raises(UserError, match="logits of the student on cats are not finite for 1 of 4 samples"):
            function(task, logits, labels, "the student on cats")
    with pytest.raises(UserError, match=r"logits of the network \(last\) on test of cats are not finite"):
        metric_rows(task, "cats", "last", ("a", "b", "c"), logits, labels)
