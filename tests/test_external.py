"""External data: what lies in the model's folder is mapped, everything else is refused unopened."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from onnx_clp.errors import ClpError, InvalidModelError, LoadError
from onnx_clp.file.external import ExternalData
from tests.hostile.outside import ENTRIES, PLACES, hard, out, proc

FLOATS = np.arange(6, dtype=np.float32)


def tensor(location: str | None = "m.data", **entries: str) -> TensorProto:
    made = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2, 3], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **entries}.items():
        if value is not None:
            made.external_data.add(key=key, value=value)
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's folder with a data file of 8 padding bytes and six floats, and a secret beside the folder."""
    inside = tmp_path / "model"
    (inside / "sub").mkdir(parents=True)
    (inside / "m.data").write_bytes(b"\xff" * 8 + FLOATS.tobytes())
    (inside / "exact.data").write_bytes(FLOATS.tobytes())
    (tmp_path / "secret").write_bytes(b"s" * 64)
    (tmp_path / "modelling").mkdir()
    (tmp_path / "modelling" / "secret").write_bytes(b"s" * 64)
    return inside


@pytest.fixture
def data(folder: Path) -> Iterator[ExternalData]:
    with ExternalData(folder / "m.onnx") as opened:
        yield opened


def refusal(data: ExternalData, what: TensorProto) -> str:
    with pytest.raises(LoadError) as caught:
        data.view(what)
    with pytest.raises(LoadError):
        data.locate(what)
    assert str(caught.value).isprintable()
    return str(caught.value)


# --- what is granted ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("location", "entries"),
    [
        ("m.data", {"offset": "8", "length": "24"}),
        ("m.data", {"offset": "8"}),
        ("m.data", {"offset": "008", "length": "0024", "checksum": "abc", "unknown": "x"}),
        ("exact.data", {}),
        ("./exact.data", {}),
        ("sub/../exact.data", {}),
        ("./sub/./../sub/deep.data", {}),
        ("_ORT_MEM_ADDR_x", {}),
        ("sub/deep.data", {}),
        ("linked.data", {}),
        ("linked_folder/deep.data", {}),
        ("..data", {}),
    ],
)
def test_bytes_inside_the_folder_are_mapped(
    folder: Path, data: ExternalData, location: str, entries: dict[str, str]
) -> None:
    (folder / "sub" / "deep.data").write_bytes(FLOATS.tobytes())
    (folder / "..data").write_bytes(FLOATS.tobytes())
    (folder / "_ORT_MEM_ADDR_x").write_bytes(FLOATS.tobytes())
    (folder / "linked.data").symlink_to("exact.data")
    (folder / "linked_folder").symlink_to("sub")
    view = data.view(tensor(location, **entries))
    assert view.readonly
    np.testing.assert_array_equal(np.frombuffer(view, np.float32), FLOATS)


def test_locate_resolves_links_and_counts_each_file_once(folder: Path, data: ExternalData) -> None:
    (folder / "linked.data").symlink_to("m.data")
    for location in ("m.data", "linked.data", "./m.data"):
        found = data.locate(tensor(location, offset="8"))
        assert (found.path, found.offset, found.length) == (folder / "m.data", 8, 24)
    assert data.files() == {folder / "m.data": 32}
    data.view(tensor("exact.data"))
    assert data.total_bytes == 32 + 24


def test_a_relative_model_path_means_the_current_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    with ExternalData(Path("m.onnx")) as data:
        assert data.view(tensor("exact.data")) == FLOATS.tobytes()
    monkeypatch.chdir(folder.parent)
    with ExternalData(Path("model/m.onnx")) as data:
        assert data.view(tensor("exact.data")) == FLOATS.tobytes()


def test_the_current_folder_is_not_looked_at(folder: Path, data: ExternalData, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "sub" / "here.data").write_bytes(FLOATS.tobytes())
    monkeypatch.chdir(folder / "sub")
    assert "no such file" in refusal(data, tensor("here.data"))


def test_views_outlive_the_object_and_descriptors_do_not(folder: Path) -> None:
    before = sum(1 for _ in Path("/proc/self/fd").iterdir())
    data = ExternalData(folder / "m.onnx")
    view = data.view(tensor("exact.data"))
    array = np.frombuffer(view, np.float32)
    os.pread(data.descriptor(tensor("exact.data")), 4, 0)
    data.close()
    np.testing.assert_array_equal(array, FLOATS)
    del array, view
    assert sum(1 for _ in Path("/proc/self/fd").iterdir()) == before


def test_the_descriptor_reads_the_same_bytes(data: ExternalData) -> None:
    where = tensor(offset="8")
    found = data.locate(where)
    assert os.pread(data.descriptor(where), found.length, found.offset) == FLOATS.tobytes()


def test_forgotten_bytes_can_be_read_again(data: ExternalData) -> None:
    where = tensor(offset="8")
    assert data.view(where) == FLOATS.tobytes()
    data.forget(where)
    assert data.view(where) == FLOATS.tobytes()


def test_more_files_than_descriptors(folder: Path, data: ExternalData) -> None:
    import resource

    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    for number in range(400):
        (folder / f"{number}.data").write_bytes(FLOATS.tobytes())
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
    try:
        for _ in range(2):
            assert all(data.view(tensor(f"{n}.data")) == FLOATS.tobytes() for n in range(400))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert data.total_bytes == 400 * 24


@pytest.mark.parametrize(
    ("kind", "dims", "size"),
    [(TensorProto.INT4, [5], 3), (TensorProto.FLOAT16, [5], 10), (27, [3], 3), (1, [0], 0)],
)
def test_packed_and_empty_elements_have_their_size(
    folder: Path, data: ExternalData, kind: int, dims: list[int], size: int
) -> None:
    (folder / "packed").write_bytes(b"\1" * size)
    packed = tensor("packed")
    packed.data_type = kind
    packed.dims[:] = dims
    assert data.view(packed) == b"\1" * size
    assert data.locate(packed).length == size


# --- the Hugging Face cache -----------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache with one repository; its snapshot's files, the model too, are links to blobs."""
    snapshot = tmp_path / "hub" / "models--a--b" / "snapshots" / "0123" / "onnx"
    blobs = tmp_path / "hub" / "models--a--b" / "blobs"
    other = tmp_path / "hub" / "models--c--d" / "blobs"
    for made in (snapshot, blobs, other):
        made.mkdir(parents=True)
    (blobs / "aa").write_bytes(b"model")
    (blobs / "bb").write_bytes(FLOATS.tobytes())
    (other / "cc").write_bytes(FLOATS.tobytes())
    (snapshot / "m.onnx").symlink_to("../../../blobs/aa")
    return snapshot


def test_a_snapshot_may_link_to_its_own_blobs(cache: Path) -> None:
    (cache / "m.data").symlink_to("../../../blobs/bb")
    with ExternalData(cache / "m.onnx") as data:
        assert data.view(tensor("m.data")) == FLOATS.tobytes()
        assert list(data.files()) == [cache.parents[2] / "blobs" / "bb"]


@pytest.mark.parametrize(
    "target",
    ["../../../../models--c--d/blobs/cc", "../../../refs/main", "../../../blobs/deep/x", "../../other/x"],
)
def test_a_snapshot_may_link_nowhere_else(cache: Path, target: str) -> None:
    place = cache / target
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(FLOATS.tobytes())
    (cache / "m.data").symlink_to(target)
    with ExternalData(cache / "m.onnx") as data:
        assert "link out of" in refusal(data, tensor("m.data"))


def test_a_blob_folder_that_is_a_link_is_not_followed(cache: Path, tmp_path: Path) -> None:
    repository = cache.parents[2]
    (repository / "blobs").rename(tmp_path / "elsewhere")
    (repository / "blobs").symlink_to(tmp_path / "elsewhere")
    (cache / "m.data").symlink_to("../../../blobs/bb")
    with ExternalData(cache / "m.onnx") as data:
        assert "link out of" in refusal(data, tensor("m.data"))


def test_a_folder_that_only_looks_like_a_cache_gives_no_right(tmp_path: Path) -> None:
    plain = tmp_path / "repo" / "snapshots" / "0123"
    (tmp_path / "repo" / "blobs").mkdir(parents=True)
    plain.mkdir(parents=True)
    (tmp_path / "repo" / "blobs" / "bb").write_bytes(FLOATS.tobytes())
    (plain / "m.data").symlink_to("../../blobs/bb")
    with ExternalData(plain / "m.onnx") as data:
        assert "link out of" in refusal(data, tensor("m.data"))


# --- what is refused ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("location", "entries", "word"), ENTRIES)
def test_an_unsound_entry_is_refused(data: ExternalData, location: str, entries: dict[str, str], word: str) -> None:
    assert word in refusal(data, tensor(location, **entries))


@pytest.mark.parametrize("key", ["location", "offset", "length"])
def test_a_key_given_twice_is_refused(data: ExternalData, key: str) -> None:
    where = tensor("m.data", offset="8", length="24")
    where.external_data.add(key=key, value="8")
    assert "twice" in refusal(data, where)


def test_text_that_is_not_utf8_is_refused(data: ExternalData) -> None:
    where = TensorProto.FromString(tensor("m.data").SerializeToString().replace(b"m.data", b"m.d\xff\xfea"))
    assert "not text" in refusal(data, where)


@pytest.mark.parametrize(("make", "word"), PLACES)
def test_a_name_that_leads_astray_is_refused(
    folder: Path, data: ExternalData, make: Callable[[Path], object], word: str
) -> None:
    make(folder)
    assert word in refusal(data, tensor("x"))


def test_nothing_outside_the_folder_is_opened(folder: Path, data: ExternalData) -> None:
    opened: list[str] = []
    watching = True

    def watch(event: str, args: tuple[object, ...]) -> None:
        if watching and event == "open":
            opened.append(str(args[0]))

    sys.addaudithook(watch)
    for make in (out, hard, proc):
        make(folder)
        refusal(data, tensor("x"))
        (folder / "x").unlink()
    for name in ("../secret", str(folder.parent / "secret"), "sub/../../secret"):
        refusal(data, tensor(name))
    data.view(tensor("exact.data"))
    watching = False
    assert set(opened) <= {str(folder), "exact.data"}


def test_a_file_swapped_for_a_link_after_it_was_resolved_is_not_followed(
    folder: Path, data: ExternalData, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = os.path.realpath

    def resolve_then_swap(path: Path, *, strict: bool = False) -> str:
        resolved = resolve(path, strict=strict)
        if resolved.endswith("exact.data"):
            Path(resolved).unlink()
            Path(resolved).symlink_to(folder.parent / "secret")
        return resolved

    monkeypatch.setattr(os.path, "realpath", resolve_then_swap)
    with pytest.raises(LoadError):
        data.view(tensor("exact.data"))


def test_a_file_changed_between_two_looks_is_refused(folder: Path, data: ExternalData) -> None:
    data.view(tensor("exact.data"))
    data.close()
    (folder / "exact.data").write_bytes(b"\0" * 28)
    with pytest.raises(LoadError, match="changed"):
        data.view(tensor("exact.data"))


def test_a_model_without_a_path_has_no_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert "without a path" in refusal(ExternalData(None), tensor("exact.data"))


def test_strings_and_impossible_dimensions_are_refused(data: ExternalData) -> None:
    strings = tensor("exact.data")
    strings.data_type = TensorProto.STRING
    assert "strings" in refusal(data, strings)
    negative = tensor("exact.data")
    negative.dims[:] = [-2, -3]
    with pytest.raises(InvalidModelError):
        data.view(negative)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["location", "offset", "length", "checksum", ""]),
            st.one_of(
                st.text(max_size=12),
                st.integers(-50, 50).map(str),
                st.lists(st.sampled_from(["..", ".", "", "sub", "x", "exact.data", "secret"]), max_size=5).map(
                    "/".join
                ),
            ),
        ),
        max_size=5,
    )
)
def test_any_entry_gives_the_bytes_or_one_line(folder: Path, entries: list[tuple[str, str]]) -> None:
    (folder / "x").unlink(missing_ok=True)
    out(folder)
    where = tensor(None)
    for key, value in entries:
        where.external_data.add(key=key, value=value)
    with ExternalData(folder / "m.onnx") as data:
        try:
            view = data.view(where)
        except ClpError:
            return
    assert len(view) == 24
    assert b"s" not in bytes(view)


def test_a_real_saved_model_reads_back(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[6] x) => (float[6] y) {y = Add(x, w)}'
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(FLOATS, "w"))
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    stored = onnx.load(tmp_path / "m.onnx", load_external_data=False).graph.initializer[0]
    with ExternalData(tmp_path / "m.onnx") as data:
        assert data.view(stored) == FLOATS.tobytes()
