"""The codec: what goes in comes out equal, and no stranger's pickle is ever loaded."""

from __future__ import annotations

import datetime
import json
import pickle
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenantkv.codec import decode, encode
from tenantkv.errors import CodecError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)


class Text(str):
    """A text that JSON would bring back as another type."""


class Number(int):
    """The same for a number."""


NOT_JSON = [
    (1, 2),
    {"a": (1,)},
    {1: "a"},
    {None: 1},
    {1, 2},
    1j,
    datetime.date(2026, 1, 1),
    bytearray(b"x"),
    [b"x"],
    {"a": b"x"},
    float("nan"),
    [float("inf")],
    Text("x"),
    [Text("x")],
    Number(7),
]


class Trap:
    """A pickle that leaves a trace when it is loaded."""

    def __reduce__(self) -> Any:
        return exec, ("import sys; sys.sprung = True",)


class Unpicklable:
    def __reduce__(self) -> Any:
        raise RuntimeError("hunter2-password")


@given(st.binary() | st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_bytes_and_text_come_back(value: Any) -> None:
    data = encode(value)
    assert decode(data) == value and type(decode(data)) is type(value)
    assert len(data) == 1 + len(value if isinstance(value, bytes) else value.encode())


@given(JSON)
def test_json_comes_back_with_its_types(value: Any) -> None:
    try:
        data = encode(value)
    except CodecError:
        # Lone surrogates, which are no text.
        assert any("\ud800" <= letter <= "\udfff" for letter in json.dumps(value, ensure_ascii=False))
        return
    assert repr(decode(data)) == repr(value)


@pytest.mark.parametrize("value", NOT_JSON, ids=repr)
def test_what_json_would_change_is_refused_or_pickled(value: Any) -> None:
    with pytest.raises(CodecError) as caught:
        encode(value)
    assert caught.value.__context__ is None
    data = encode(value, allow_pickle=True)
    assert data[0] == 3
    again = decode(data, is_authentic=True)
    assert repr(again) == repr(value) and type(again) is type(value)


def test_pickle_is_the_last_resort() -> None:
    for value in (b"x", "x", [1], {"a": None}, None, True, 1.5):
        assert encode(value, allow_pickle=True) == encode(value)


def test_nobodys_pickle_is_not_loaded() -> None:
    for data in (b"\3" + pickle.dumps(Trap()), pickle.dumps(Trap()), b"\2" + pickle.dumps(Trap())):
        with pytest.raises(CodecError):
            decode(data)
    assert not hasattr(sys, "sprung")
    with pytest.raises(CodecError):
        decode(pickle.dumps(Trap()), is_authentic=True)
    assert not hasattr(sys, "sprung")
    # The trap is one.
    decode(encode(Trap(), allow_pickle=True), is_authentic=True)
    assert vars(sys).pop("sprung") is True


def test_errors_show_nothing_of_a_value() -> None:
    for call in (
        lambda: encode(Unpicklable(), allow_pickle=True),
        lambda: encode({("hunter2-password",): 1}),
        lambda: encode("hunter2-password\ud800"),
        lambda: decode(b"\3chunter2-password\n", is_authentic=True),
        lambda: decode(b"\2hunter2-password"),
        lambda: decode(b"\1hunter2-password\xff"),
    ):
        with pytest.raises(CodecError) as caught:
            call()
        error: BaseException | None = caught.value
        while error is not None:
            assert "hunter2" not in str(error)
            error = error.__context__


@given(st.binary(max_size=60))
@settings(max_examples=500)
def test_fuzz(data: bytes) -> None:
    try:
        decode(data)
    except CodecError:
        pass


@pytest.mark.parametrize(
    "data", [b"", b"\4x", b"\xff", b"\2", b"\2" + b"[" * 100_000, b"\1\xff", b"{}", b"\xc1"]
)
def test_damage_is_one_error(data: bytes) -> None:
    with pytest.raises(CodecError):
        decode(data)


def test_deep_values_are_refused() -> None:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(CodecError):
        encode(value)


def test_pickle_is_not_imported_without_need() -> None:
    program = (
        "import sys; from tenantkv.codec import decode, encode; before = 'pickle' in sys.modules\n"
        "decode(encode([1])); assert before or 'pickle' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
