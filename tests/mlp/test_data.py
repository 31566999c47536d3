"""Data: digits, synthetic blobs, IDX folders; and one sentence for every file that is not as it should be."""

import gzip

import numpy as np
import pytest

import mlp
from mlp import idx

ARRAYS = {
    "train-images": (np.arange(5 * 4 * 3) % 256).reshape(5, 4, 3).astype(np.uint8),
    "train-labels": np.array([0, 1, 2, 1, 0], np.uint8),
    "t10k-images": np.full((2, 4, 3), 255, np.uint8),
    "t10k-labels": np.array([3, 1], np.uint8),
}


@pytest.fixture
def mnist(tmp_path):
    """A folder of four small IDX files; `mnist(dash, ending)` names them so."""

    def make(dash="-", ending=""):
        for name, array in ARRAYS.items():
            idx.write(tmp_path / f"{name}{dash}idx{array.ndim}-ubyte{ending}", array)
        return tmp_path

    return make


@pytest.mark.parametrize("dash", ["-", "."])
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_a_folder_of_idx_files_is_read_under_either_name_compressed_or_not(mnist, dash, ending):
    data = mlp.load(mnist(dash, ending))
    assert data.x_train.shape == (5, 12)
    np.testing.assert_array_equal(data.x_train[1], np.arange(12, 24, dtype=np.float32) / 255)
    np.testing.assert_array_equal(data.y_train, [0, 1, 2, 1, 0])
    assert (data.x_test == 1).all()
    assert (data.x_train.dtype, data.y_train.dtype, data.classes) == (np.float32, np.intp, 4)


@pytest.mark.parametrize("name", ["file", "file.gz"])
@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "i4", "f4", "f8"])
@pytest.mark.parametrize("shape", [(3, 2, 4), (7,), (0, 5)])
def test_an_idx_file_comes_back_as_it_was_written(tmp_path, name, dtype, shape):
    array = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
    idx.write(tmp_path / name, array)
    back = idx.read(tmp_path / name)
    np.testing.assert_array_equal(back, array, strict=True)
    assert back.flags.writeable


def test_an_idx_file_is_the_bytes_that_the_format_says(tmp_path):
    idx.write(tmp_path / "file", np.array([[1, -2]], np.int16))
    assert (tmp_path / "file").read_bytes() == bytes.fromhex("00000b02 00000001 00000002 0001 fffe")


def test_a_dtype_that_idx_lacks_is_refused(tmp_path):
    with pytest.raises(TypeError, match="not complex128"):
        idx.write(tmp_path / "file", np.zeros(2, complex))


GOOD = bytes.fromhex("00000801 00000003 010203")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "cut short: an IDX file begins with 4 bytes, it holds 0"),
        (GOOD[:3], "cut short: .* it holds 3"),
        (GOOD[:6], "cut short: .*, it holds 6"),
        (GOOD[:-1], "cut short: its header announces 11 bytes, it holds 10"),
        (GOOD + b"\0", "too long: its header announces 11 bytes, it holds 12"),
        (b"\x01" + GOOD[1:], "no IDX file: it begins with 01 00 08 01"),
        (b"\0\0\x07\x01" + GOOD[4:], "no IDX file: it begins with 00 00 07 01"),
        (b"\x89PNG", "no IDX file: it begins with 89 50 4e 47"),
        (bytes.fromhex("00000803") + b"\xff" * 12, "cut short: .* it holds 16"),
        (gzip.compress(GOOD, mtime=0)[:-9], "cut short or damaged: gzip cannot unpack it"),
        (b"\x1f\x8b nonsense", "cut short or damaged: gzip cannot unpack it"),
        (gzip.compress(GOOD, mtime=0)[:10] + b"\xff" * 20, "cut short or damaged: gzip cannot unpack it"),
    ],
)
def test_a_malformed_idx_file_is_named_with_what_is_wrong(tmp_path, content, sentence):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ValueError, match=rf"file is {sentence}"):
        idx.read(tmp_path / "file")


def test_a_missing_file_is_named_with_where_it_should_be(mnist):
    folder = mnist()
    (folder / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(
        ValueError, match=f"{folder.name} has no t10k-labels-idx1-ubyte; it is expected there"
    ):
        mlp.load(folder)


@pytest.mark.parametrize(
    ("name", "array", "sentence"),
    [
        (
            "train-labels",
            np.zeros(4, np.uint8),
            "train-images.* has 5 images and .*train-labels.* has 4 labels",
        ),
        ("train-labels", np.zeros((5, 1), np.uint8), r"train-labels.* holds uint8 of shape \(5, 1\)"),
        ("train-labels", np.zeros(5, np.float32), "train-labels.* holds float32"),
        ("train-labels", np.array([0, 1, -1, 0, 0], np.int8), "one whole number from 0"),
        ("train-images", np.zeros(5, np.uint8), r"train-images.* has the shape \(5,\); images x rows"),
        ("train-images", np.zeros((0, 4, 3), np.uint8), r"the shape \(0, 4, 3\)"),
        (
            "t10k-images",
            np.zeros((2, 5, 5), np.uint8),
            "12 values an image in train-images and 25 in t10k-images",
        ),
    ],
)
def test_files_that_do_not_fit_each_other_are_named_with_what_is_expected(mnist, name, array, sentence):
    folder = mnist()
    idx.write(folder / f"{name}-idx{ARRAYS[name].ndim}-ubyte", array)
    with pytest.raises(ValueError, match=sentence):
        mlp.load(folder)


def test_digits_are_scaled_and_split_by_the_seed():
    data, again, other = mlp.load("digits"), mlp.load("digits"), mlp.load("digits", seed=1)
    assert (data.x_train.shape, data.x_test.shape, data.classes) == ((1438, 64), (359, 64), 10)
    assert (data.x_train.min(), data.x_train.max()) == (0, 1)
    np.testing.assert_array_equal(data.x_test, again.x_test)
    assert (data.y_test != other.y_test).any()


def test_synthetic_data_have_the_size_asked_for_and_can_be_learnt():
    data = mlp.load("synthetic", examples=500, features=20, classes=4, seed=2)
    assert (data.x_train.shape, data.x_test.shape, data.classes) == ((400, 20), (100, 20), 4)
    assert set(data.y_train.tolist()) == {0, 1, 2, 3}
    np.testing.assert_array_equal(
        data.x_train, mlp.load("synthetic", examples=500, features=20, classes=4, seed=2).x_train
    )
    assert mlp.fit(mlp.MLP([20, 4]), data, epochs=10, batch=20).test_accuracy[-1] > 0.9


def test_data_that_there_is_not_is_refused_in_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    for source, options, sentence in [
        ("digts", {}, "'digts'; did you mean 'digits'"),
        ("nowhere/at/all", {}, "there is digits, synthetic, the path of a folder"),
        (tmp_path / "file", {}, "file is a file; give the folder"),
        ("synthetic", {"classes": 0}, "classes of synthetic data is 0"),
        ("synthetic", {"examples": 1}, "test_share is 0.2"),
        ("digits", {"test_share": 1.0}, "test_share is 1.0; of 1797 examples"),
        ("digits", {"test_share": float("nan")}, "test_share is nan; of 1797 examples"),
        ("digits", {"test_share": "some"}, "test_share is 'some'; of 1797 examples"),
        ("digits", {"seed": -1}, "seed is -1; it must be a whole number from 0"),
        ("synthetic", {"seed": "one"}, "seed is 'one'"),
        (None, {}, "unknown data None; there is digits"),
        (["digits"], {}, r"unknown data \['digits'\]; did you mean 'digits'"),
    ]:
        with pytest.raises(ValueError, match=sentence):
            mlp.load(source, **options)


def test_the_room_is_cheap_to_import():
    """scikit-learn and Numba wait until they are needed."""
    import subprocess
    import sys

    loaded = "import mlp, sys; sys.exit(bool({'sklearn', 'numba', 'scipy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", loaded], check=False).returncode == 0
