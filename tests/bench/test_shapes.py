"""Shapes: ranges, shapes with orders and batches, and the sentence for each way to write them wrong."""

import pytest

from bench.plans.shapes import MOST, Shape, all_shapes, all_sizes


@pytest.mark.parametrize(
    ("written", "sizes"),
    [
        ([8, "16"], (8, 16)),
        (["64:512:*2"], (64, 128, 256, 512)),
        (["64:500:*2"], (64, 128, 256)),
        (["100:300:+100"], (100, 200, 300)),
        (["100:299:+100", 5], (100, 200, 5)),
        (["1:27:*3"], (1, 3, 9, 27)),
        (["7:7:*2", "7:7:+1"], (7, 7)),
        ([" 1 : 4 : +2 "], (1, 3)),
    ],
)
def test_a_range_goes_up_to_its_end_and_includes_it_if_hit(written, sizes):
    """By a factor or by a step."""
    assert all_sizes(written, "test") == sizes


@pytest.mark.parametrize(
    ("written", "shapes"),
    [
        ("784x512x128", [Shape(784, 512, 128)]),
        ("784x512x128 tn", [Shape(784, 512, 128, "tn")]),
        ("64X64X64 NN *16", [Shape(64, 64, 64, "nn", 16)]),
        ("64x64x64 *16", [Shape(64, 64, 64, None, 16)]),
        ("1:2:*2x3x4:5:+1", [Shape(m, 3, k) for m in (1, 2) for k in (4, 5)]),
        ("2:4:*2x1x1 nt *3", [Shape(2, 1, 1, "nt", 3), Shape(4, 1, 1, "nt", 3)]),
        ([1, "2:3:+1", 4], [Shape(1, 2, 4), Shape(1, 3, 4)]),
        (Shape(1, 2, 3, "tt", 4), [Shape(1, 2, 3, "tt", 4)]),
    ],
)
def test_a_shape_may_have_ranges_an_order_and_a_batch(written, shapes):
    """Every combination of its ranges; text, numbers, or read before."""
    assert list(all_shapes([written], "test")) == shapes


MISTAKES = {
    "64:4096:*1": "never ends",
    "64:4096:*0": "never ends",
    "64:4096:+0": "never ends",
    "512:64:*2": "ends below its start",
    "0:64:+1": "'0' is no size",
    "64:128": "is no range; write 64:4096",
    "64:128:2": "is no range",
    "64:128:-2": "is no range",
    "64:128:*2.5": "is no range",
    "1:100000:+1": f"stands for more than {MOST} sizes",
    "1:99999999999999999999:+1": f"stands for more than {MOST} sizes",
    "sixty": "'sixty' is no size",
}


@pytest.mark.parametrize("written", MISTAKES)
def test_a_mistake_in_a_range_gets_one_sentence(written):
    """It names the range; nothing endless is begun."""
    with pytest.raises(ValueError, match=MISTAKES[written]) as raised:
        all_sizes([written], "test: sizes")
    assert str(raised.value).startswith("test: sizes: ")


WRONG_SHAPES = {
    "3x4": "is not m x n x k",
    "": "is not m x n x k",
    "3x4x5x6": "is not m x n x k",
    "3x0x4": "'0' is no size",
    "3x4x5 nm": "has no order 'nm'; there are nn, tn, nt, tt",
    "3x4x5 *0": "'0' is no size",
    "3x4x5 nn *two": "'two' is no size",
    "3x4x5 *2 nn": "goes on after its batch",
    "1:100:+1x1:100:+1x1:2:+1": f"stands for more than {MOST} shapes",
    "8:4:*2x3x4": "ends below its start",
}


@pytest.mark.parametrize("written", WRONG_SHAPES)
def test_a_mistake_in_a_shape_gets_one_sentence(written):
    """It names the shape."""
    with pytest.raises(ValueError, match=WRONG_SHAPES[written]) as raised:
        all_shapes([written], "test")
    assert repr(written) in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("written", [5, None, (1, 2), True])
def test_what_is_no_shape_at_all_is_said(written):
    """Not a traceback."""
    with pytest.raises(ValueError, match="is not m x n x k"):
        all_shapes([written], "test")
