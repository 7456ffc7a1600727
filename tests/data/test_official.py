"""VOC, COCO and NUS-WIDE: what is peculiar to each of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from kd.common.errors import UserError
from kd.data.sources import coco, nus_wide, voc
from tests.data.layouts import CONCEPTS, make_coco, make_nus_wide, make_voc


def test_voc__lists_twenty_classes_whatever_is_shown(tmp_path: Path) -> None:
    found = voc.read(voc.Options(root=make_voc(tmp_path))).classes
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
        ("", "000007.xml: is not XML"),
        ("<annotation>&nothing;</annotation>", "000007.xml: is not XML .*undefined entity"),
        (
            "<html><body>404</body></html>",
            "000007.xml: is XML of another kind: its root is 'html', expected 'annotation'",
        ),
        ("<annotation><object></object></annotation>", "000007.xml: has an object without a name, number 1"),
        ("<?xml version='1.0' encoding='klingon'?><annotation/>", "000007.xml: is not XML .*klingon"),
        ("<?xml version='1.0' encoding='rot13'?><annotation/>", "000007.xml: is not XML .*rot13"),
        (b"<annotation>\xb9\xb7</annotation>", "000007.xml: is not XML .*can't decode"),
        (
            b"<?xml version='1.0' encoding='ascii'?><annotation>\xb9</annotation>",
            "000007.xml: is not XML .*can't decode",
        ),
        (
            "<!DOCTYPE a [<!ENTITY a 'lol'>"
            + "".join(f"<!ENTITY a{n} '&a{n - 1 or ''};&a{n - 1 or ''};'>" for n in range(1, 64))
            + "]><annotation>&a63;</annotation>",
            "000007.xml: is not XML .*declares entities",
        ),
    ],
)
def test_voc__broken_annotations(tmp_path: Path, text: str | bytes | None, message: str) -> None:
    root = make_voc(tmp_path)
    file = root / "Annotations" / "000007.xml"
    file.unlink()
    if text is not None:
        file.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(UserError, match=message) as raised:
        voc.read(voc.Options(root=root))
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("declared", "codec"),
    [
        ("gb2312", "gb2312"),
        ("GB2312", "gb18030"),
        ("Shift_JIS", "shift_jis"),
        ("big5", "big5"),
        ("windows-1251", "cp1251"),
        ("ISO-8859-1", "latin-1"),
        ("utf-16", "utf-16"),
        ("utf-16", "utf-16-le"),
        ("utf-16", "utf-8"),
        ("UTF-8", "utf-8-sig"),
        (None, "utf-16"),
        (None, "utf-8"),
    ],
)
def test_voc__annotations_in_any_encoding(tmp_path: Path, declared: str | None, codec: str) -> None:
    root = make_voc(tmp_path)
    word = {"cp1251": "собака", "latin-1": "Köter", "shift_jis": "犬"}.get(codec, "狗")
    text = f"<annotation><source>{word}</source><object><name>\n dog\u00a0</name></object></annotation>"
    text = text.replace("\u00a0", "&#160;")
    head = "" if declared is None else f'<?xml version="1.0" encoding="{declared}"?>\n'
    (root / "Annotations" / "000007.xml").write_bytes((head + text).encode(codec))
    found = {sample.id: sample.labels for sample in voc.read(voc.Options(root=root)).samples}
    assert found["000007"] == ("dog",)


@pytest.mark.parametrize(
    ("flag", "labels"),
    [
        (" 1 ", ()),
        ("\n1\n", ()),
        ("&#160;1", ()),
        ("True", ()),
        ("yes", ()),
        ("0\t", ("dog",)),
        ("false", ("dog",)),
        ("No", ("dog",)),
    ],
)
def test_voc__flags_are_read_as_meant(tmp_path: Path, flag: str, labels: tuple[str, ...]) -> None:
    root = make_voc(tmp_path)
    text = f"<annotation><object><name>dog</name><difficult>{flag}</difficult></object></annotation>"
    (root / "Annotations" / "000007.xml").write_text(text)
    options = voc.Options(root=root, difficult="ignore", unlabelled="keep")
    assert {sample.id: sample.labels for sample in voc.read(options).samples}["000007"] == labels


@pytest.mark.parametrize("flag", ["2", "", "unspecified", "1 0"])
def test_voc__a_flag_that_is_neither_is_an_error(tmp_path: Path, flag: str) -> None:
    root = make_voc(tmp_path)
    text = f"<annotation><object><name>dog</name><difficult>{flag}</difficult></object></annotation>"
    (root / "Annotations" / "000007.xml").write_text(text)
    with pytest.raises(UserError, match=rf"000007.xml, object 1 \(dog\): difficult is '{flag}', expected 0 or 1"):
        voc.read(voc.Options(root=root, difficult="ignore"))


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
    found = coco.read(coco.Options(root=make_coco(tmp_path))).classes
    assert found is not None
    assert len(set(found)) == 80
    assert sorted(found)[49] == "person"  # as in the labels that L2D comes with


IMAGES = [{"id": 1, "file_name": "a.jpg"}]
CATEGORIES = [{"id": 1, "name": "cat"}]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"annotations": [{"image_id": 7, "category_id": 1}]},
            r"annotations\[0\]: is of image 7, which the file does not",
        ),
        (
            {"annotations": [{"image_id": 900, "category_id": 99}]},
            r"annotations\[0\]: is of category 99, which the file",
        ),
        (
            {"annotations": [{"image_id": 900}]},
            r"annotations\[0\]: category_id is missing or null, expected an integer",
        ),
        ({"annotations": [{"image_id": None, "category_id": 1}]}, r"annotations\[0\]: image_id is missing or null"),
        (
            {"annotations": [{"image_id": "900", "category_id": 1}]},
            r"annotations\[0\]: image_id is '900', expected an int",
        ),
        (
            {"annotations": [{"image_id": 900, "category_id": 1.0}]},
            r"annotations\[0\]: category_id is 1.0, expected an int",
        ),
        ({"annotations": [[1, 2]]}, r"annotations\[0\]: is a list, expected an object"),
        ({"annotations": None}, "annotations is missing or null, expected a list"),
        ({"annotations": {}}, "annotations is an object, expected a list"),
        (
            {"images": [*IMAGES, {"id": 1, "file_name": "b.jpg"}]},
            r"images\[1\]: id 1 is that of 'a.jpg' and of 'b.jpg'",
        ),
        ({"images": [{"file_name": "a.jpg"}]}, r"images\[0\]: id is missing or null, expected an integer"),
        ({"images": [{"id": True, "file_name": "a.jpg"}]}, r"images\[0\]: id is True, expected an integer"),
        ({"images": [{"id": [1], "file_name": "a.jpg"}]}, r"images\[0\]: id is a list, expected an integer"),
        (
            {"images": [{"id": 3, "file_name": None}]},
            r"images\[0\] \(id 3\): file_name is missing or null, expected text",
        ),
        ({"images": [{"id": 3, "file_name": " "}]}, r"images\[0\] \(id 3\): file_name is '', expected text"),
        ({"images": [None]}, r"images\[0\]: is missing or null, expected an object"),
        ({"images": "a.jpg"}, "images is 'a.jpg', expected a list"),
        (
            {"categories": [*CATEGORIES, {"id": 1, "name": "dog"}]},
            r"categories\[1\]: id 1 is that of 'cat' and of 'dog'",
        ),
        ({"categories": [*CATEGORIES, *CATEGORIES]}, r"categories\[1\]: id 1 is that of 'cat' and of 'cat'"),
        (
            {"categories": [*CATEGORIES, {"id": 2, "name": "cat"}]},
            r"categories: 2 have the name 'cat', ids \[1, 2\]; merge",
        ),
        ({"categories": [{"id": 1, "name": "cat "}, {"id": 2, "name": "cat"}]}, r"categories: 2 have the name 'cat'"),
        ({"categories": [{"id": 1}]}, r"categories\[0\] \(id 1\): name is missing or null, expected text"),
        ({"categories": [{"id": 1, "name": 5}]}, r"categories\[0\] \(id 1\): name is 5, expected text"),
    ],
)
def test_coco__broken_files(tmp_path: Path, change: dict[str, object], message: str) -> None:
    options = coco.Options(root=make_coco(tmp_path))
    file = tmp_path / "annotations" / "instances_train2014.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(UserError, match=f"instances_train2014.json: {message}") as raised:
        coco.read(options)
    assert len(str(raised.value).splitlines()) == 1


def test_coco__no_json(tmp_path: Path) -> None:
    options = coco.Options(root=make_coco(tmp_path))
    file = tmp_path / "annotations" / "instances_val2014.json"
    file.write_text("{")
    with pytest.raises(UserError, match=r"instances_val2014.json: is not JSON"):
        coco.read(options)
    for text in ("[]", "null", "5"):
        file.write_text(text)
        with pytest.raises(UserError, match=r"instances_val2014.json: categories is missing or null, expected a list"):
            coco.read(options)
    for text in ("[" * 100_000, '{"images": [], "images": []}', '{"images": [{"id": 1, "id": 2}]}', "{}{}"):
        file.write_text(text)
        with pytest.raises(
            UserError, match=r"instances_val2014.json: is not JSON \((.*stands twice|Extra data|maximum)"
        ):
            coco.read(options)
    file.unlink()
    with pytest.raises(UserError, match=r"source.root: .*instances_val2014.json: cannot be read"):
        coco.read(options)


def test_nus_wide__ids_are_paths_with_slashes_and_concepts_those_of_the_file(tmp_path: Path) -> None:
    options = nus_wide.Options(root=make_nus_wide(tmp_path))
    listing = nus_wide.read(options)
    assert listing.samples[0].id == "actor/0001_000005.jpg"
    assert listing.classes == sorted(CONCEPTS)


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


def test_nus_wide__labels_without_images(tmp_path: Path) -> None:
    options = nus_wide.Options(root=make_nus_wide(tmp_path))
    (tmp_path / "TrainTestLabels" / "Labels_dog_Test.txt").write_text("1\n")
    with pytest.raises(UserError, match=r"Labels_dog_Test.txt: has 1 lines, expected 2, one for each image"):
        nus_wide.read(options)
    (tmp_path / "TrainTestLabels" / "Labels_dog_Test.txt").unlink()
    with pytest.raises(UserError, match=r"source.root: .*Labels_dog_Test.txt: cannot be read"):
        nus_wide.read(options)


def test_nus_wide__a_concept_stands_once(tmp_path: Path) -> None:
    options = nus_wide.Options(root=make_nus_wide(tmp_path))
    with (tmp_path / "Concepts81.txt").open("a") as stream:
        stream.write(f"{CONCEPTS[1]}\n")
    with pytest.raises(UserError, match=r"Concepts81.txt, line 5: 'person' stands in line 2, too; expected once"):
        nus_wide.read(options)
