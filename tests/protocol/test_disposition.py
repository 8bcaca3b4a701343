from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from httpd.protocol.disposition import NAME_BYTES, filename_of, render_disposition, safe_name

NAMED: list[tuple[str | None, str | None]] = [
    (None, None),
    ("", None),
    ("attachment", None),
    ("attachment;", None),
    ("attachment; filename=a.txt", "a.txt"),
    ('attachment; filename="a b.txt"', "a b.txt"),
    ('ATTACHMENT ;FileName = "a.txt" ; x=y', "a.txt"),
    ('form-data; name="file"; filename="a;b=c,d.txt"', "a;b=c,d.txt"),
    (r'attachment; filename="a\"b\\c"', 'a"b\\c'),
    ('attachment; filename=""', None),
    ('attachment; filename="ф.txt"'.encode().decode("latin-1"), "ф.txt"),
    ("attachment; filename=ф.txt".encode().decode("latin-1"), "ф.txt"),
    ('attachment; filename="caf\xe9"', "caf\xe9"),
    ("attachment; filename*=UTF-8''%D1%84%20.txt", "ф .txt"),
    ("attachment; filename*=utf-8'en'%e2%82%ac", "€"),
    ("attachment; filename*=ISO-8859-1''caf%E9", "café"),
    ("attachment; filename*=UTF-8''a.txt; filename=b.txt", "a.txt"),
    ("attachment; filename=b.txt; filename*=UTF-8''a.txt", "a.txt"),
    ("attachment; filename=b.txt; filename*=UTF-8''%ff", "b.txt"),
    ("attachment; filename=b.txt; filename*=UTF-8''%4", "b.txt"),
    ("attachment; filename=b.txt; filename*=KOI8-R''a", "b.txt"),
    ("attachment; filename=b.txt; filename*=\"UTF-8''a\"", "b.txt"),
    ("attachment; filename*=UTF-8''", None),
    ("attachment; filename=a; filename=b", None),
    ("attachment; filename=a b.txt", None),
    ('attachment; filename="a', None),
    ("attachment; filename=", None),
    ("attachment filename=a", None),
    ("; filename=a", None),
    ('attachment; filename="../../etc/passwd"', "../../etc/passwd"),
]


@pytest.mark.parametrize(("value", "name"), NAMED)
def test_the_name_a_field_gives(value: str | None, name: str | None) -> None:
    assert filename_of(value) == name


RENDERED: list[tuple[str, str]] = [
    ("a b.txt", 'attachment; filename="a b.txt"'),
    ("", 'attachment; filename=""'),
    ("ф.txt", "attachment; filename=\"_.txt\"; filename*=UTF-8''%D1%84.txt"),
    ('a"b', "attachment; filename=\"a_b\"; filename*=UTF-8''a%22b"),
    ("a\\b", "attachment; filename=\"a_b\"; filename*=UTF-8''a%5Cb"),
    ("%41", "attachment; filename=\"_41\"; filename*=UTF-8''%2541"),
    ("a\r\nX: y\x00", 'attachment; filename="aX: y"'),
    ("a\x85\u2028\u202e\ud800b", 'attachment; filename="ab"'),
]


@pytest.mark.parametrize(("name", "value"), RENDERED)
def test_a_name_is_rendered_safely(name: str, value: str) -> None:
    assert render_disposition("attachment", name) == value


@given(name=st.text(st.characters(exclude_categories=("Cc", "Cf", "Cs", "Zl", "Zp")), min_size=1))
def test_a_rendered_name_is_read_back(name: str) -> None:
    assert filename_of(render_disposition("inline", name)) == name


@given(name=st.text())
def test_what_is_rendered_is_always_visible_ascii(name: str) -> None:
    value = render_disposition("inline", name)
    assert value.isascii()
    assert value.isprintable()


SAFE: list[tuple[str, str]] = [
    ("a.txt", "a.txt"),
    ("/etc/passwd", "passwd"),
    ("..\\..\\a.txt", "a.txt"),
    ("C:\\dir/a.txt", "a.txt"),
    ("dir/", ""),
    (".", ""),
    ("..", ""),
    ("a/..", ""),
    (".\x00.", ""),
    (" .. ", ""),
    ("", ""),
    ("\x00\r\n", ""),
    ("a\x00\x1f\x7f\x85b", "ab"),
    ("photo\u202egpj.exe", "photogpj.exe"),
    ("\ud800a", "a"),
    ("  a b  ", "a b"),
    (".profile", ".profile"),
    ("...", "..."),
    ("a" * 255, "a" * 255),
    ("a" * 256, "a" * 255),
    ("a" * 300 + ".tar", "a" * 251 + ".tar"),
    ("ф" * 200 + ".jpg", "ф" * 125 + ".jpg"),
    ("ф" * 200, "ф" * 127),
    ("a." + "b" * 300, "a." + "b" * 253),
    ("." + "b" * 300, "." + "b" * 254),
]


@pytest.mark.parametrize(("name", "safe"), SAFE)
def test_a_safe_name_is_a_plain_file_name(name: str, safe: str) -> None:
    assert safe_name(name) == safe


@given(name=st.text() | st.text(alphabet="./\\aф ", max_size=400))
def test_no_name_leads_out_of_a_folder(name: str) -> None:
    safe = safe_name(name)
    assert not {"/", "\\", "\0"} & set(safe)
    assert safe not in (".", "..")
    assert len(safe.encode()) <= NAME_BYTES
    assert safe_name(safe) == safe
