"""Reading data sets: every kind, and every way it can be wrong."""

from __future__ import annotations

import io
import pickle
import pickletools
import random
import subprocess
import sys
import tarfile

import numpy as np
import pytest
from PIL import Image

from llmnas.data import Dataset, load
from llmnas.data.cifar import CLASSES
from llmnas.errors import InputError

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (30, 8, 8, 3), dtype=np.uint8)
Y = np.arange(30) % 3


def saved(tmp_path, name="set.npz", **arrays):
    """Writes an npz file, by default a good one, and returns its path."""
    np.savez(tmp_path / name, **{"x_train": X, "y_train": Y, **arrays})
    return str(tmp_path / name)


def pictures(root, sizes=((8, 8),), classes=("cat", "dog"), mode="RGB", each=12):
    """Writes class folders of small images and returns their root."""
    for label in classes:
        (root / label).mkdir(parents=True)
        for index in range(each):
            image = Image.new(mode, sizes[index % len(sizes)], index * 5 if mode == "L" else (index, 2, 3))
            image.save(root / label / f"{index:02}.png")
    return root


def test_digits():
    """The built-in digits have their published size and no test part of their own."""
    data = load("digits")
    assert (data.x.shape, data.x.dtype, data.classes, data.natural) == ((1797, 1, 8, 8), np.uint8, 10, False)
    assert data.test_x is None


def test_mnist1d():
    """MNIST-1D is generated silently, the same for the same seed, and leaves the global generators alone."""
    random.seed(3)
    np.random.seed(3)
    expected = random.random(), np.random.rand()
    random.seed(3)
    np.random.seed(3)
    data = load("mnist1d")
    assert (random.random(), np.random.rand()) == expected
    assert data.x.shape == (4000, 1, 40)
    assert data.test_x.shape == (1000, 1, 40)
    assert load("mnist1d").digest == data.digest != load("mnist1d", seed=1).digest


def test_no_torch():
    """Reading data does not load torch."""
    code = "import sys, llmnas.data as d; d.split(d.load('digits'), 0); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("x", "option", "shape"), [
    (X, "", (3, 8, 8)), (np.moveaxis(X, -1, 1), "", (3, 8, 8)), (X[..., 0], "", (1, 8, 8)),
    (X[..., :1], "", (1, 8, 8)), (X.reshape(30, -1), "", (1, 192)), (X.reshape(30, 64, 3), "", (3, 64)),
    (X.reshape(30, 2, 96), "", (2, 96)), (X[:, :3], "@nhwc", (3, 3, 8)), (X[:, :3], "@nchw", (3, 8, 3)),
    (X.reshape(30, 16, 12), "@nhw", (1, 16, 12)), (X.reshape(30, 16, 12), "@ncl,noflip", (16, 12))])
def test_npz_layouts(tmp_path, x, option, shape):
    """Axes are inferred where the shape tells, and taken from the option where it does not."""
    data = load(saved(tmp_path, x_train=x) + option)
    assert data.shape == shape
    assert data.x.dtype == np.uint8


def test_npz_values(tmp_path):
    """Channels-last pixels arrive in their channel; labels are numbered in order, with their names."""
    data = load(saved(tmp_path, y_train=np.array([7, -1, 30])[Y], x_test=X[:5], y_test=np.full(5, 30)))
    assert np.array_equal(data.x[4, 2], X[4, :, :, 2])
    assert data.class_names == ("-1", "7", "30")
    assert list(data.y[:3]) == [1, 0, 2]
    assert set(data.test_y) == {2}
    assert data.natural
    assert not load(saved(tmp_path) + "@noflip").natural


def test_npz_text_labels(tmp_path):
    """Labels may be strings, and numbers may be given names."""
    assert load(saved(tmp_path, y_train=np.array(["b", "a", "c"])[Y])).class_names == ("a", "b", "c")
    assert load(saved(tmp_path, class_names=np.array(["x", "y", "z"]))).class_names == ("x", "y", "z")


def test_float_examples(tmp_path):
    """Floating-point and large integer examples become float32."""
    assert load(saved(tmp_path, x_train=X / 255.0)).x.dtype == np.float32
    assert load(saved(tmp_path, x_train=X.astype(np.int64) * 9)).x.dtype == np.float32


HOLED = np.where(np.arange(192).reshape(8, 8, 3) == 5, np.nan, X.astype(float))


@pytest.mark.parametrize(("arrays", "words"), [
    ({"x_train": X[:29]}, "29 examples but 30 labels"),
    ({"x_train": HOLED}, "example 0 contains NaN"),
    ({"x_train": X * np.float64(1e300)}, "contains NaN or infinity"),
    ({"x_train": X[:, :3]}, "ambiguous"),
    ({"x_train": X.reshape(30, 16, 12)}, "ambiguous"),
    ({"x_train": X.reshape(30, 2, 4, 8, 3)}, "expected images"),
    ({"x_train": X[..., 0, 0].astype("U3")}, "expected numbers"),
    ({"y_train": Y + 0.5}, "not whole numbers"),
    ({"y_train": np.eye(3)[Y]}, "one-hot"),
    ({"y_train": Y * 0}, "only one class, '0'"),
    ({"y_train": np.where(np.arange(30) < 2, 3, Y)}, "class '3' has 2 training examples"),
    ({"x_train": X[:12], "y_train": Y[:12]}, "at least 20"),
    ({"x_test": X[:4]}, "x_test, y_test"),
    ({"x_test": X[:4], "y_test": Y[:4] + 9}, "label 9 does not occur"),
    ({"x_test": X[:4, :6], "y_test": Y[:4]}, r"shape \(3, 6, 8\)"),
    ({"x_test": X[:4, 0], "y_test": Y[:4]}, "expected 4 axes"),
    ({"x_test": X[:0], "y_test": Y[:0]}, "test part is empty"),
    ({"class_names": np.array(["a"])}, "class_names"),
    ({"x_train": np.array([object()] * 30)}, "Python objects")])
def test_npz_faults(tmp_path, arrays, words):
    """Every fault of an npz file is refused with the file and what is wrong."""
    path = saved(tmp_path, **arrays)
    with pytest.raises(InputError, match=words) as caught:
        load(path)
    assert path in str(caught.value)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(("spec", "words"), [
    ("digit", "did you mean 'digits'"), ("no/such/folder", "no such file"), ("gone.npz", "no such file"),
    ("photos@9999", "no such file|4 to 1024")])
def test_unknown(spec, words):
    """An unknown name is answered with the nearest, a missing path as missing."""
    with pytest.raises(InputError, match=words):
        load(spec)


def test_files_of_other_kinds(tmp_path):
    """Files that are not data, or are damaged, are refused by name."""
    for name in ("notes.txt", "broken.npz", "broken.tar.gz"):
        (tmp_path / name).write_bytes(b"hello")
        with pytest.raises(InputError, match=name):
            load(str(tmp_path / name))
    np.savez(tmp_path / "other.npz", a=X)
    with pytest.raises(InputError, match="expected arrays x_train"):
        load(str(tmp_path / "other.npz"))
    with pytest.raises(InputError, match="only be given for folders"):
        load(saved(tmp_path) + "@32")


def test_folder(tmp_path):
    """Class folders give names in order, RGB images are natural, and other files are ignored."""
    root = pictures(tmp_path / "pets@home")
    (root / "cat" / "Thumbs.db").write_bytes(b"x")
    data = load(str(root))
    assert (data.name, data.class_names, data.x.shape, data.natural) == (
        "pets@home", ("cat", "dog"), (24, 3, 8, 8), True)
    assert data.x[5, 0, 0, 0] == 5


def test_folder_gray(tmp_path):
    """Gray files give one channel; one colour file among them gives three."""
    root = pictures(tmp_path / "a", mode="L")
    assert load(str(root)).shape == (1, 8, 8)
    Image.new("RGB", (8, 8)).save(root / "dog" / "colour.png")
    assert load(str(root)).shape == (3, 8, 8)


def test_folder_16_bit(tmp_path):
    """Sixteen-bit images are scaled, not clipped."""
    root = pictures(tmp_path / "a", mode="L")
    Image.fromarray(np.full((8, 8), 40_000, dtype=np.uint16)).save(root / "cat" / "00.png")
    assert load(str(root)).x[0].max() == 40_000 // 257


def test_folder_with_test_part(tmp_path):
    """``train/`` and ``test/`` become the parts."""
    pictures(tmp_path / "a" / "train")
    pictures(tmp_path / "a" / "test", each=2)
    data = load(str(tmp_path / "a"))
    assert len(data.y) == 24
    assert list(data.test_y) == [0, 0, 1, 1]


def test_folder_sizes(tmp_path):
    """Sizes that differ are refused with the first such file and the option, which then works."""
    root = pictures(tmp_path / "a", sizes=((8, 8), (8, 10)))
    with pytest.raises(InputError, match=r"01\.png is 8x10 .*00\.png is 8x8 .*@SIZE"):
        load(str(root))
    assert load(f"{root}@6").shape == (3, 6, 6)


def test_folder_orientation(tmp_path):
    """An orientation tag is applied, so an image is read as it is shown."""
    root = pictures(tmp_path / "a", sizes=((6, 9),))
    tag = Image.Exif()
    tag[0x0112] = 6  # rotate by 90 degrees to show
    Image.new("RGB", (9, 6)).save(root / "cat" / "00.png", exif=tag)
    assert load(str(root)).shape == (3, 9, 6)


def test_folder_faults(tmp_path):
    """No classes, an empty class, a damaged image, and a class only the test part has are refused by name."""
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="no class folders"):
        load(str(tmp_path / "none"))
    root = pictures(tmp_path / "a")
    (root / "empty").mkdir()
    with pytest.raises(InputError, match="empty: no images"):
        load(str(root))
    (root / "empty").rmdir()
    whole = (root / "dog" / "03.png").read_bytes()
    for damage in (b"no image", whole[:40], whole[:50]):
        (root / "dog" / "03.png").write_bytes(damage)
        with pytest.raises(InputError, match=r"03\.png: cannot be read"):
            load(str(root))
    pictures(tmp_path / "b" / "train")
    pictures(tmp_path / "b" / "test", classes=("cow",))
    with pytest.raises(InputError, match="'cow' does not occur"):
        load(str(tmp_path / "b"))


def cifar(tmp_path, make, names=(*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"), suffix=""):
    """Writes CIFAR-10's files, small, and returns their folder."""
    folder = tmp_path / "cifar-10-batches"
    folder.mkdir(exist_ok=True)
    for index, name in enumerate(names):
        pixels = np.random.default_rng(index).integers(0, 256, (20, 3072), dtype=np.uint8)
        (folder / (name + suffix)).write_bytes(make(pixels, [label % 10 for label in range(20)]))
    return folder


def pickled(pixels, labels):
    """Returns a part as Python pickles it."""
    return pickle.dumps({b"data": pixels, b"labels": labels}, protocol=4)


def binary(pixels, labels):
    """Returns a part of the binary version."""
    return np.concatenate([np.array(labels, dtype=np.uint8)[:, None], pixels], axis=1).tobytes()


@pytest.mark.parametrize(("make", "suffix"), [(pickled, ""), (binary, ".bin")])
def test_cifar(tmp_path, make, suffix):
    """Both published versions are read, packed and extracted, to the same content."""
    folder = cifar(tmp_path, make, suffix=suffix)
    with tarfile.open(tmp_path / "cifar-10.tar.gz", "w:gz") as archive:
        archive.add(folder, "cifar-10-batches")
    data, packed = load(str(folder)), load(str(tmp_path / "cifar-10.tar.gz"))
    assert data.digest == packed.digest
    assert (data.x.shape, data.test_x.shape, data.class_names) == ((100, 3, 32, 32), (20, 3, 32, 32), CLASSES)
    first = np.random.default_rng(0).integers(0, 256, (20, 3072), dtype=np.uint8)
    assert data.x[0, 1, 0, 5] == first[0, 1024 + 5]


def python_2(pixels, labels):
    """Returns a pickle as Python 2 wrote it: text as byte strings, numpy under its old module names."""
    raw = bytearray(pickle.dumps({"data": pixels, "labels": labels}, protocol=3))
    for op, _, position in pickletools.genops(bytes(raw)):
        if op.name in ("SHORT_BINBYTES", "BINBYTES", "BINUNICODE"):
            raw[position:position + 1] = b"U" if op.name == "SHORT_BINBYTES" else b"T"
    return bytes(raw).replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


def test_cifar_python_2_pickle(tmp_path):
    """The published files, which Python 2 pickled, are read to the same content."""
    new, old = load(str(cifar(tmp_path, pickled))), load(str(cifar(tmp_path, python_2)))
    assert old.digest == new.digest


class Attack:
    def __reduce__(self):
        return (print, ("owned",))


def test_cifar_faults(tmp_path, capsys):
    """A pickle that calls anything is not run; missing and damaged parts are named."""
    folder = cifar(tmp_path, pickled)
    stream = io.BytesIO()
    pickle.dump({b"data": Attack()}, stream)
    for content, words in ((stream.getvalue(), r"builtins\.print"), (b"\x80", "cannot be read"),
                           (pickled(np.zeros((3, 9), np.uint8), [0, 0, 0]), "expected data"),
                           (pickled(np.zeros((1, 3072), np.uint8), [77]), "0 to 9")):
        (folder / "data_batch_2").write_bytes(content)
        with pytest.raises(InputError, match=words) as caught:
            load(str(folder))
        assert "data_batch_2" in str(caught.value)
    assert "owned" not in capsys.readouterr().out
    (folder / "data_batch_2").unlink()
    with pytest.raises(InputError, match="data_batch_2 is missing"):
        load(str(folder))


def test_digest():
    """The digest follows every part of the content."""
    base = Dataset("a", X, Y, ("a", "b", "c"))
    other = X.copy()
    other[3, 3, 3, 0] ^= 1
    assert base.digest == Dataset("other name", X.copy(), Y, ("a", "b", "c")).digest
    assert len({base.digest, Dataset("a", other, Y, ("a", "b", "c")).digest, Dataset("a", X, Y, ("a", "b", "d")).digest,
                Dataset("a", X, Y[::-1], ("a", "b", "c")).digest,
                Dataset("a", X, Y, ("a", "b", "c"), test_x=X, test_y=Y).digest}) == 5
