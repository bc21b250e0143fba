"""Manifests: what was changed is named, what was only touched does no harm."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save_file

from models import host, manifest
from models.canvas import Unloadable
from models.contract import ModelSpec
from models.manifest import Entry, ManifestError

NAME = "unet/model.safetensors"
ENTRIES = st.builds(
    Entry, st.integers(0, 1 << 50), st.integers(0, 1 << 62), st.text("0123456789abcdef", min_size=1)
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    import numpy

    folder = tmp_path / "checkpoint"
    (folder / "unet").mkdir(parents=True)
    save_file({"w": numpy.arange(10_000, dtype=numpy.float32)}, folder / NAME)
    save_file({"w": numpy.ones(10, dtype=numpy.float32)}, folder / "vae.safetensors")
    (folder / "model_index.json").write_text("{}")
    return folder


@pytest.fixture
def spec(folder: Path, tmp_path: Path) -> ModelSpec:
    place = manifest.place(tmp_path / "data", folder)
    manifest.save(manifest.record(folder), place, folder)
    sides = {"width": 8, "height": 8}
    return ModelSpec(
        id="m", family="toy", path=str(folder), manifests=((str(folder), str(place)),), **sides
    )


def flip(path: Path, count: int = 1000) -> None:
    data = bytearray(path.read_bytes())
    for index in range(len(data) - 4 * count, len(data), 4):
        data[index] ^= 1
    path.write_bytes(data)


def known_of(spec: ModelSpec) -> Path:
    return Path(spec.manifests[0][1])


def refusal(spec: ModelSpec) -> str:
    with pytest.raises(Unloadable) as caught:
        host.check_weights(spec, lambda: None)
    return str(caught.value)


def test_flipped_bytes_load_but_are_caught(folder: Path, spec: ModelSpec) -> None:
    flip(folder / NAME)
    with safe_open(folder / NAME, "numpy") as file:
        assert file.get_tensor("w").shape == (10_000,)  # the format itself sees nothing
    assert f"{NAME} has other contents" in refusal(spec)
    known = manifest.load(known_of(spec))
    assert [each.split()[0] for each in manifest.differences(known, manifest.record(folder))] == [
        NAME
    ]


def test_a_truncated_file_is_caught_without_being_read(folder: Path, spec: ModelSpec) -> None:
    os.truncate(folder / NAME, 100)
    assert "has 100 bytes" in refusal(spec)


@pytest.mark.parametrize("link", [False, True])
def test_a_missing_file_is_caught(folder: Path, spec: ModelSpec, link: bool) -> None:
    (folder / NAME).unlink()
    if link:
        (folder / NAME).symlink_to("nowhere")
    assert f"{NAME} is missing" in refusal(spec)


def test_a_touch_does_no_harm_and_writes_nothing(folder: Path, spec: ModelSpec) -> None:
    before = known_of(spec).read_bytes()
    os.utime(folder / NAME, ns=(1, 1))
    host.check_weights(spec, lambda: None)
    assert known_of(spec).read_bytes() == before


def test_what_was_not_touched_is_not_hashed(folder: Path, spec: ModelSpec) -> None:
    known = manifest.load(known_of(spec))
    read: list[int] = []
    assert manifest.changes(folder, known, read.append) == []
    assert read == []
    os.utime(folder / NAME, ns=(1, 1))
    assert manifest.changes(folder, known, read.append) == []
    assert sum(read) == known[NAME].size


def test_files_that_it_does_not_know_are_none_of_its_business(
    folder: Path, spec: ModelSpec
) -> None:
    (folder / "more.safetensors").write_bytes(b"new")
    host.check_weights(spec, lambda: None)


def test_without_a_manifest_nothing_is_asked(folder: Path) -> None:
    host.check_weights(
        ModelSpec(id="m", family="toy", path="/nowhere", width=8, height=8), lambda: None
    )


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 9, "files": {}}', '{"format": 1}'])
def test_a_damaged_manifest_is_named(spec: ModelSpec, text: str) -> None:
    known_of(spec).write_text(text)
    assert str(known_of(spec)) in refusal(spec)
    with pytest.raises(ManifestError):
        manifest.load(known_of(spec))


def test_many_differences_are_told_in_short() -> None:
    assert manifest.summary(["a is missing"]) == "a is missing"
    assert manifest.summary(list("abcde")) == "a; b; c; and 2 more"


def test_a_link_to_a_folder_has_the_manifest_of_the_folder(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    assert manifest.place(tmp_path, tmp_path / "link") == manifest.place(tmp_path, folder)
    assert manifest.place(tmp_path, folder / NAME) != manifest.place(tmp_path, folder)


def test_a_single_file_has_a_manifest_by_its_name(folder: Path) -> None:
    file = folder / NAME
    known = manifest.record(file)
    assert known.keys() == {"model.safetensors"}
    assert manifest.place(folder, file) != manifest.place(folder, folder / "vae.safetensors")
    flip(file)
    assert len(manifest.changes(file, known)) == 1
    file.unlink()
    assert manifest.changes(file, known) == ["model.safetensors is missing"]


@given(known=st.dictionaries(st.text(max_size=9), ENTRIES))
def test_what_is_saved_is_loaded(known, tmp_path_factory) -> None:
    path = tmp_path_factory.mktemp("m") / "manifests" / "x.json"
    manifest.save(known, path, Path("/somewhere"))
    assert manifest.load(path) == known
    assert [each.name for each in path.parent.iterdir()] == ["x.json"]


@given(known=st.dictionaries(st.text(max_size=9), ENTRIES, max_size=5))
def test_nothing_differs_from_itself_and_all_from_nothing(known) -> None:
    assert manifest.differences(known, known) == []
    assert len(manifest.differences(known, {})) == len(known)
