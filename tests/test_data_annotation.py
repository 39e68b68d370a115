"""Annotation files of ILSVRC-2015 VID: what is read, and what is refused."""

import pytest

from dsiam_net.preparation.annotation import Annotation, Object, read_annotation
from dsiam_net.sequences import SequenceError
from vid_tree import an_object, annotation


def read(tmp_path, text):
    path = tmp_path / "000000.xml"
    path.write_text(text) if isinstance(text, str) else path.write_bytes(text)
    return read_annotation(path)


def test_size_and_objects_are_read_with_their_flags(tmp_path):
    objects = [
        an_object(1, 2, 30, 40, track=0, label="n1", occluded=1),
        an_object(5, 6, 7, 8, track=12, label="n2", generated=1),
    ]
    assert read(tmp_path, annotation(objects, size=(1280, 720))) == Annotation(
        (1280, 720),
        (
            Object(0, "n1", (1, 2, 30, 40), True, False),
            Object(12, "n2", (5, 6, 7, 8), False, True),
        ),
    )


def test_a_frame_may_have_no_object(tmp_path):
    assert read(tmp_path, annotation()).objects == ()


def test_flags_that_are_missing_are_off_and_other_elements_do_not_matter(tmp_path):
    text = (
        "<annotation><extra><object>1</object></extra>"
        "<size><width>9</width><height>8</height><depth>3</depth></size>"
        "<object><trackid>3</trackid><name>n1</name><truncated>1</truncated>"
        "<bndbox><ymin>0</ymin><xmin>1</xmin><ymax>2</ymax><xmax>3</xmax></bndbox></object>"
        "</annotation>"
    )
    assert read(tmp_path, text).objects == (Object(3, "n1", (1, 0, 3, 2), False, False),)


def test_text_in_pieces_is_one_text(tmp_path):
    text = annotation([an_object(1, 2, 30, 40)]).replace("n02084071", "n02&#48;<!-- -->84071")
    assert read(tmp_path, text).objects[0].label == "n02084071"


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "damaged, or not XML"),
        (annotation([an_object(1, 2, 3, 4)])[:-30], "damaged, or not XML"),
        (b"\xff\xd8\xff\xe0 a picture", "damaged, or not XML"),
        ("<html></html>", "expected <annotation>, received <html>"),
        ("<annotation></annotation>", "<width>, received an annotation without it"),
        (annotation(size=("wide", 9)), "<width>, received 'wide'"),
        (annotation([an_object("", 2, 3, 4)]), "<xmin>, received ''"),
        (annotation([an_object(1, "nan", 3, 4)]), "<ymin>, received 'nan'"),
        (annotation([an_object(1, 2, 3, 4, track="a")]), "<trackid>, received 'a'"),
        (annotation([an_object(1, 2, 3, 4, track="0.5")]), "a whole trackid"),
        (annotation([an_object(1, 2, 3, 4, label="")]), "an object with a name"),
        (annotation([an_object(1, 2, 3, 4, occluded="yes")]), "<occluded>, received 'yes'"),
    ],
)
def test_a_damaged_file_is_an_error_that_names_it(tmp_path, text, words):
    with pytest.raises(SequenceError, match=r"000000\.xml") as error:
        read(tmp_path, text)
    assert words in str(error.value)


def test_a_file_that_cannot_be_read_is_an_error_that_names_it(tmp_path):
    with pytest.raises(SequenceError, match=r"cannot read annotation .*gone\.xml"):
        read_annotation(tmp_path / "gone.xml")


LAUGHS = "".join(f'<!ENTITY l{i + 1} "{f"&l{i};" * 10}">' for i in range(9))


@pytest.mark.parametrize(
    "definition",
    [
        f'<!DOCTYPE annotation [<!ENTITY l0 "ha">{LAUGHS}]>',
        '<!DOCTYPE annotation [<!ENTITY l9 SYSTEM "file:///etc/hostname">]>',
        '<!DOCTYPE annotation SYSTEM "http://example.org/annotation.dtd">',
    ],
)
def test_document_types_and_so_entities_are_refused(tmp_path, definition):
    text = annotation([an_object(1, 2, 3, 4, label="&l9;")])
    with pytest.raises(SequenceError, match=r"000000\.xml: expected an annotation without a doc"):
        read(tmp_path, definition + text)
