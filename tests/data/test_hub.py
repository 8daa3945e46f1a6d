"""Data sets of Hugging Face: save_to_disk folders, parquet files, hub names and objects, by the extra `hub`."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from flowscope.cli import main
from flowscope.data import load
from flowscope.errors import FlowscopeWarning
from tests.support import formats
from tests.support.formats import PIXELS, encoded
from tests.support.refusals import refused

datasets = pytest.importorskip("datasets")
datasets.disable_progress_bars()

FEATURES = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])}


def table(columns, features=None):
    return datasets.Dataset.from_dict(columns, features=None if features is None else datasets.Features(features))


def pictures(count=3):
    return [Image.fromarray(image) for image in PIXELS[:count]]


@pytest.mark.parametrize("write", [formats.write_saved, formats.write_parquet, formats.write_parquet_shards])
def test_every_form_is_the_set_that_was_written(write, tmp_path):
    path, expected = write(tmp_path)
    data = load(path)
    assert data.digest == expected.digest and data.class_names == expected.class_names
    assert load(path, classes="bee", subset=2).digest == load(expected, classes="bee", subset=2).digest
    assert data.source == str(path) and data.notes == ()


def test_a_copy_of_a_repository_is_its_tables(tmp_path):
    _, expected = formats.write_parquet_shards(tmp_path)
    (tmp_path / "README.md").write_text("A data set.")
    data = load(tmp_path)
    assert data.digest == expected.digest and data.name == tmp_path.name
    (tmp_path / "data" / "test-00000-of-00001.parquet").write_bytes(b"")
    refused(tmp_path, "files of test and train")
    assert load(tmp_path, split="train").digest == expected.digest


def test_an_object_is_its_rows_as_it_gives_them():
    whole = formats.hub_dataset()
    chosen = whole.select([7, 2, 11])
    data = load(chosen)
    np.testing.assert_array_equal(data.points, formats.points_of(PIXELS[[7, 2, 11]]))
    assert data.labels.tolist() == [1, 0, 2] == chosen["label"]
    assert load(chosen.with_format("torch")).digest == data.digest
    both = datasets.DatasetDict({"train": whole, "test": chosen})
    refused(both, "has the parts train and test; say which")
    assert load(both, split="test").digest == data.digest


def test_a_transform_is_applied_and_a_stream_is_read():
    def darker(rows):
        return {"image": [np.asarray(image) // 2 for image in rows["image"]], "label": rows["label"]}

    data = load(formats.hub_dataset().with_transform(darker))
    np.testing.assert_array_equal(data.points, formats.points_of(PIXELS // 2))
    assert load(formats.hub_dataset().to_iterable_dataset()).labels.tolist() == formats.LABELS.tolist()


def test_parts_of_a_saved_dict_are_asked_for(tmp_path):
    whole = formats.hub_dataset()
    datasets.DatasetDict({"train": whole, "rest": whole.select(range(2))}).save_to_disk(str(tmp_path / "d"))
    refused(tmp_path / "d", "has the parts train and rest; say which: split='train'")
    refused(tmp_path / "d", "split is 'val' and", split="val")
    assert load(tmp_path / "d", split="rest").name == "d/rest" and len(load(tmp_path / "d", split="rest")) == 2


def test_several_columns_are_asked_for(tmp_path):
    columns = {"image": pictures(), "mask": pictures(), "coarse": [0, 1, 0], "fine": [1, 1, 0], "id": [5, 6, 7]}
    kinds = {"image": datasets.Image(), "mask": datasets.Image(), "id": datasets.Value("int64")}
    kinds |= {name: datasets.ClassLabel(names=["a", "b"]) for name in ("coarse", "fine")}
    table(columns, kinds).to_parquet(str(tmp_path / "a.parquet"))
    said = refused(tmp_path / "a.parquet", r"several columns of images \(image and mask\)")
    assert "--columns" in said
    refused(tmp_path / "a.parquet", r"labels \(coarse and fine\)", columns="image,coarse,fine")
    refused(tmp_path / "a.parquet", "expected one of", columns="picture")
    data = load(tmp_path / "a.parquet", columns=["image", "fine"])
    assert data.labels.tolist() == [1, 1, 0] and data.notes == ()
    with pytest.warns(FlowscopeWarning, match="was not read: coarse, fine, id, mask"):
        load(table(columns, kinds), columns="image")


def test_columns_without_types_are_known_by_their_form(tmp_path):
    import pyarrow
    from pyarrow import parquet

    cells = [{"bytes": encoded(image), "path": f"{i}.png"} for i, image in enumerate(PIXELS[:3])]
    parquet.write_table(pyarrow.table({"image": cells, "label": ["b", "a", "b"]}), tmp_path / "a.parquet")
    data = load(tmp_path / "a.parquet")
    assert data.labels.tolist() == [1, 0, 1] and data.class_names == {0: "a", 1: "b"}
    parquet.write_table(pyarrow.table({"x": [1, 2]}), tmp_path / "b.parquet")
    refused(tmp_path / "b.parquet", "has the columns x and none of images")


VECTORS = formats.VECTORS.astype(np.float32)
LISTS = {
    "list": datasets.List(datasets.Value("float32")),
    "fixed": datasets.List(datasets.Value("float32"), length=5),
    "large": datasets.LargeList(datasets.Value("float32")),
    "half": datasets.List(datasets.Value("float16")),
    "matrix": datasets.Array2D((5, 1), "float32"),
}


@pytest.mark.parametrize("kind", LISTS)
def test_a_column_of_vectors_is_points(kind, tmp_path):
    cells = VECTORS[:, :, None] if kind == "matrix" else VECTORS
    columns = {"embedding": list(cells), "label": formats.LABELS.tolist()}
    features = {"embedding": LISTS[kind], "label": datasets.ClassLabel(names=list(formats.CLASSES))}
    whole = table(columns, features)
    whole.to_parquet(str(tmp_path / "a.parquet"))
    expected = cells.astype(np.float16) if kind == "half" else cells
    for source in (tmp_path / "a.parquet", whole):
        data = load(source)
        np.testing.assert_array_equal(np.asarray(data.points), expected, strict=True)
        assert data.labels.tolist() == formats.LABELS.tolist() and data.class_names[2] == "cat"
    chosen = load(whole.select([4, 2]))
    np.testing.assert_array_equal(np.asarray(chosen.points), expected[[4, 2]])


def test_lists_of_bytes_are_pixels_and_images_come_first():
    data = load(table({"x": [[0, 255], [255, 0]]}, {"x": datasets.List(datasets.Value("uint8"))}))
    np.testing.assert_array_equal(data.points, [[-1, 1], [1, -1]])
    both = table({"image": pictures(2), "v": [[0.0], [1.0]]}, {"image": datasets.Image(), "v": LISTS["list"]})
    with pytest.warns(FlowscopeWarning, match="was not read: v"):
        assert load(both).shape == (3, 9, 8)
    with pytest.warns(FlowscopeWarning, match="was not read: image"):
        assert load(both, columns="v").shape == (1,)


def test_columns_that_are_no_vectors(tmp_path):
    refused(table({"a": [[1.0], [2.0]], "b": [[1.0], [2.0]]}), r"several columns of vectors \(a and b\)")
    refused(table({"v": [[1.0], [1.0, 2.0]]}), "vectors of 1 to 2 numbers")
    refused(table({"v": [[1.0], None]}), "rows without a vector")
    refused(table({"v": [[1.0], [None]]}), "cells without a number")
    refused(table({"a": [1.0, 2.0]}), "save a table of numbers, a point a row, as .csv")
    refused(table({"tokens": [[1, 2], [3, 4]]}), "none of images")


def test_classes_that_are_not_known_are_no_labels():
    with pytest.warns(FlowscopeWarning, match="The column label has no labels"):
        assert load(table({"image": pictures(), "label": [-1, -1, -1]}, FEATURES)).labels is None
    refused(table({"image": pictures(), "label": [0, -1, 1]}, FEATURES), "has no label for row 1")


def test_a_file_that_points_to_other_files_is_refused(tmp_path):
    import pyarrow
    from pyarrow import parquet

    path = formats.write_files(tmp_path, {"a.png": encoded(PIXELS[0])}) / "a.png"
    cells = [{"bytes": None, "path": str(path)}]
    struct = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    parquet.write_table(pyarrow.table({"image": pyarrow.array(cells, struct)}), tmp_path / "a.parquet")
    refused(tmp_path / "a.parquet", "image 0 of .* has no bytes")
    assert len(load(table({"image": [str(path)]}, {"image": datasets.Image()}))) == 1  # the user's own object may


def saved(tmp_path):
    path, _ = formats.write_saved(tmp_path)
    return path


def test_a_saved_folder_that_leads_out_of_itself_or_is_damaged(tmp_path):
    path = saved(tmp_path)
    good = json.loads((path / "state.json").read_text())
    for name in ("../x.arrow", "/etc/passwd", ""):
        (path / "state.json").write_text(json.dumps(good | {"_data_files": [{"filename": name}]}))
        refused(path, "expected files beside it")
    (path / "state.json").write_text("{}")
    refused(path, "_data_files")
    (path / "state.json").write_text(json.dumps(good))
    for file in path.glob("*.arrow"):
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    refused(path, "cannot be read|damaged")


@pytest.mark.slow
def test_a_truncated_parquet_is_one_line(tmp_path, capsys):
    path, _ = formats.write_parquet(tmp_path)
    path.write_bytes(path.read_bytes()[:-9])
    assert main(["info", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "parquet" in error


def test_a_missing_file_of_several_is_refused(tmp_path):
    path, _ = formats.write_parquet_shards(tmp_path)
    (path / "train-00001-of-00003.parquet").unlink()
    refused(path, "2 numbered .parquet files, from 0 to 2, of 3")


# names of the hub


def test_a_name_of_the_hub_without_a_network_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert main(["info", "hf:nobody/nothing"]) == 2
    error = capsys.readouterr().err
    assert (error.count("\n") == 1 and "'hf:nobody/nothing'" in error) or "hf:nobody/nothing" in error


def test_what_is_no_name_of_the_hub_says_what_to_type():
    refused("nobody/nothing", "or type hf:nobody/nothing for a data set of the hub")
    for text in ("hf:", "hf:a/b/c", "hf:/"):
        refused(text, "expected hf:owner/name")


@pytest.mark.slow
def test_without_the_package_the_extra_is_named(tmp_path):
    code = (
        "import sys; sys.modules['datasets'] = None\n"
        "import flowscope as fs\n"
        "try: fs.load('hf:a/b')\n"
        "except fs.errors.MissingExtraError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "flowscope[hub]" in done.stdout
