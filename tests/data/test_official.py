"""VOC, COCO and NUS-WIDE: what is peculiar to each of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from kd.data.sources import coco, nus_wide, voc
from kd.jobs.errors import UserError
from tests.data.layouts import CONCEPTS, make_coco, make_nus_wide, make_voc


def test_voc__lists_twenty_classes_whatever_is_shown(tmp_path: Path) -> None:
    found = voc.classes(voc.Options(root=tmp_path))
    assert found is not None
    assert len(set(found)) == 20


def test_voc__difficult_objects_may_be_ignored(tmp_path: Path) -> None:
    """Both times parts of objects, which have names, too, are no labels."""
    root = make_voc(tmp_path)
    counted, ignored = (
        {sample.id: sample.labels for sample in voc.read(voc.Options(root=root, difficult=way)).samples}
        for way in ("positive", "ignore")
    )
    assert counted["000005"] == ("cat", "dog")
    assert ignored["000005"] == ("cat",)
    assert counted["000009"] == ignored["000009"] == ("person",)


def test_voc__trainval_is_train_or_what_the_devkit_divides_it_into(tmp_path: Path) -> None:
    root = make_voc(tmp_path)
    drawn, official = (
        {sample.id: sample.split for sample in voc.read(voc.Options(root=root, official_val=official)).samples}
        for official in (False, True)
    )
    tests = {"000001": "test", "000002": "test"}
    assert drawn == {"000005": "train", "000007": "train", "000009": "train"} | tests
    assert official == {"000005": "train", "000007": "train", "000009": "val"} | tests


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "trainval.txt, line 2: .*000007.xml: no such file"),
        ("<annotation><object>", "000007.xml: is not XML"),
        ("<annotation><object></object></annotation>", "000007.xml: has an object without a name"),
    ],
)
def test_voc__broken_annotations(tmp_path: Path, text: str | None, message: str) -> None:
    root = make_voc(tmp_path)
    file = root / "Annotations" / "000007.xml"
    file.unlink()
    if text is not None:
        file.write_text(text)
    with pytest.raises(UserError, match=message):
        voc.read(voc.Options(root=root))


def test_voc__without_test_lists(tmp_path: Path) -> None:
    root = make_voc(tmp_path)
    (root / "ImageSets" / "Main" / "test.txt").unlink()
    with pytest.raises(UserError, match=r"source.root: .*test.txt: cannot be read"):
        voc.read(voc.Options(root=root))


def test_coco__val2014_is_test_and_ids_say_which(tmp_path: Path) -> None:
    samples = coco.read(coco.Options(root=make_coco(tmp_path))).samples
    assert {(sample.id.split("/")[0], sample.split) for sample in samples} == {
        ("train2014", "train"),
        ("val2014", "test"),
    }
    assert samples[0].id == "train2014/COCO_train2014_000000000005.jpg"


def test_coco__lists_eighty_classes_whatever_is_shown(tmp_path: Path) -> None:
    found = coco.classes(coco.Options(root=tmp_path))
    assert found is not None
    assert len(set(found)) == 80
    assert sorted(found)[49] == "person"  # as in the labels that L2D comes with


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"annotations": [{"image_id": 7, "category_id": 1}]},
            "an annotation is of image 7, which the file does not list",
        ),
        (
            {"annotations": [{"image_id": 900, "category_id": 99}]},
            "an annotation is of category 99, which the file does",
        ),
        ({"annotations": [{"image_id": 900}]}, "expected images .* and annotations .*; failed at 'category_id'"),
        ({"images": [{"id": 1, "file_name": name} for name in "ab"]}, "two images have the same id"),
    ],
)
def test_coco__broken_files(tmp_path: Path, change: dict[str, object], message: str) -> None:
    options = coco.Options(root=make_coco(tmp_path))
    file = tmp_path / "annotations" / "instances_train2014.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(UserError, match=message):
        coco.read(options)


def test_coco__no_json(tmp_path: Path) -> None:
    options = coco.Options(root=make_coco(tmp_path))
    file = tmp_path / "annotations" / "instances_val2014.json"
    file.write_text("{")
    with pytest.raises(UserError, match=r"instances_val2014.json: is not JSON"):
        coco.read(options)
    file.write_text("[]")
    with pytest.raises(UserError, match=r"instances_val2014.json: expected images"):
        coco.read(options)
    file.unlink()
    with pytest.raises(UserError, match=r"source.root: .*instances_val2014.json: cannot be read"):
        coco.read(options)


def test_nus_wide__ids_are_paths_with_slashes_and_concepts_those_of_the_file(tmp_path: Path) -> None:
    options = nus_wide.Options(root=make_nus_wide(tmp_path))
    assert nus_wide.read(options).samples[0].id == "actor/0001_000005.jpg"
    assert nus_wide.classes(options) == list(CONCEPTS)


def test_nus_wide__may_lie_as_its_archives_unpack(tmp_path: Path) -> None:
    options = nus_wide.Options(root=make_nus_wide(tmp_path))
    before = nus_wide.fingerprint(options), [(each.id, each.labels) for each in nus_wide.read(options).samples]
    for name, folder in (("Concepts81.txt", "ConceptsList"), ("TrainTestLabels", "Groundtruth")):
        (tmp_path / folder).mkdir()
        shutil.move(tmp_path / name, tmp_path / folder / name)
    assert (
        nus_wide.fingerprint(options),
        [(each.id, each.labels) for each in nus_wide.read(options).samples],
    ) == before


def test_nus_wide__labels_without_pictures(tmp_path: Path) -> None:
    options = nus_wide.Options(root=make_nus_wide(tmp_path))
    (tmp_path / "TrainTestLabels" / "Labels_dog_Test.txt").write_text("1\n")
    with pytest.raises(UserError, match=r"Labels_dog_Test.txt: has 1 lines, expected 2, one for each picture"):
        nus_wide.read(options)
    (tmp_path / "TrainTestLabels" / "Labels_dog_Test.txt").unlink()
    with pytest.raises(UserError, match=r"source.root: .*Labels_dog_Test.txt: cannot be read"):
        nus_wide.read(options)


def test_nus_wide__a_concept_stands_once(tmp_path: Path) -> None:
    options = nus_wide.Options(root=make_nus_wide(tmp_path))
    with (tmp_path / "Concepts81.txt").open("a") as stream:
        stream.write(f"{CONCEPTS[1]}\n")
    with pytest.raises(UserError, match=r"Concepts81.txt, line 5: 'person' stands in line 2, too; expected once"):
        nus_wide.classes(options)
