"""What jobs ask for: units, what stages have of `all`, and mistakes."""

from __future__ import annotations

from typing import Any

import pytest

from kd.common.errors import UserError
from kd.config.load import load_config


@pytest.mark.parametrize(("given", "minutes"), [(90, 90), ("90m", 90), ("4h", 240), ("1.5d", 2160), ("2 h", 120)])
def test_runtime__in_minutes(tiny: dict[str, Any], given: int | str, minutes: int) -> None:
    resources = load_config(tiny | {"resources": {"all": {"runtime": given}}}).resources
    assert resources.of("train_teacher").runtime == minutes


def test_stages__have_what_all_have_unless_they_say_otherwise(tiny: dict[str, Any]) -> None:
    given = {
        "all": {"partition": "gpu", "gpus": 4, "nodes": 2, "threads": 6},
        "train_teacher": {"gpus": 2, "partition": "big"},
        "cache_targets": {"threads": 3},
    }
    resources = load_config(tiny | {"resources": given}).resources
    teacher, student = resources.of("train_teacher"), resources.of("distill_student")
    cache, data = resources.of("cache_targets"), resources.of("prepare_dataset")
    assert [teacher.partition, teacher.gpus, teacher.nodes, teacher.threads] == ["big", 2, 2, 6]
    assert [student.partition, student.gpus, student.nodes, student.processes] == ["gpu", 4, 2, 8]
    assert [cache.partition, cache.gpus, cache.nodes, cache.threads] == ["gpu", 1, 1, 3]  # only trainings are shared
    assert [data.partition, data.gpus, data.nodes] == ["gpu", 0, 1]


def test_memory__is_that_of_the_data_and_four_for_each_gpu_of_a_node(tiny: dict[str, Any]) -> None:
    given = {"train_teacher": {"gpus": 2, "nodes": 3}, "train_baseline": {"mem_gib": 40}}
    resources = load_config(tiny | {"memory": {"ram_gib": 10}, "resources": given}).resources
    asked = [resources.of(stage).memory_gib(10) for stage in ("distill_student", "train_teacher", "train_baseline")]
    assert asked == [14, 28, 40]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"all": {"runtime": "4 hours"}}, "resources.all.runtime: expected minutes, or a number with m, h or d"),
        ({"all": {"gpus": -1}}, "resources.all.gpus: input should be greater than or equal to 0"),
        ({"cache_targets": {"gpus": 2}}, "cache_targets: only trainings use several GPUs or nodes"),
        ({"tabulate": {}}, "resources.tabulate: unknown key"),
        ({"all": {"cpus": 3}}, "resources.all.cpus: unknown key; "),
        ({"all": {"mem_gib": 4}}, "mem_gib: 4, expected more than the 4 GiB of data that such a job may keep there"),
        (
            {"train_teacher": {"gpus": 4, "mem_gib": 16}},
            "resources.train_teacher.mem_gib: 16, expected more than the 16",
        ),
    ],
)
def test_mistakes(tiny: dict[str, Any], given: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as error:
        load_config(tiny | {"resources": given})
    assert said in str(error.value)
