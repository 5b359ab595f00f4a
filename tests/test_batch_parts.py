"""The parts of a batch: which models it finds, what its journal remembers, what a model's fingerprint covers."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto

from onnx_clp.batch import fingerprint as marks
from onnx_clp.batch import journal, sources
from onnx_clp.batch.destinations import LocalDestination, is_url
from onnx_clp.batch.fingerprint import data_file, data_names, digest, fingerprint
from onnx_clp.batch.journal import read
from onnx_clp.batch.record import Record
from onnx_clp.errors import LoadError, UsageError
from tests.batches import put

# --- sources -----------------------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("in/b.onnx", "in/a.ONNX", "in/deep/er/c.onnx", "in/.hidden/d.onnx", "in/readme.txt", "other/x.onnx"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return tmp_path


def found(where: str, out: str = "out") -> dict[str, str]:
    return sources.find(where, os.path.abspath(out)).paths  # noqa: PTH100


def test_a_folder_is_searched_to_the_bottom(tree: Path) -> None:
    assert found("in") == {
        name: str(tree / "in" / name) for name in ("a.ONNX", "b.onnx", ".hidden/d.onnx", "deep/er/c.onnx")
    }


def test_outputs_below_the_input_are_not_inputs(tree: Path) -> None:  # noqa: ARG001
    assert set(found("in", "in/deep")) == {"a.ONNX", "b.onnx", ".hidden/d.onnx"}
    assert set(found("in/**/*.onnx", "in/deep")) == {"b.onnx"}
    assert set(found("in", "in/dee")) > {"deep/er/c.onnx"}


def test_links_are_followed_inside_the_folder_alone(tree: Path) -> None:
    (tree / "in" / "same.onnx").symlink_to(tree / "in" / "b.onnx")
    (tree / "in" / "away.onnx").symlink_to(tree / "other" / "x.onnx")
    (tree / "in" / "folder").symlink_to(tree / "other")
    (tree / "in" / "loop").symlink_to(tree / "in")
    result = sources.find("in", str(tree / "out"))
    assert "same.onnx" in result.paths
    assert not {"away.onnx", "folder/x.onnx", "loop/b.onnx"} & set(result.paths)
    (sentence,) = result.left_out
    assert sentence == "in/away.onnx: a link out of the folder; it was not followed"


def test_a_glob_mirrors_what_follows_its_plain_part(tree: Path) -> None:
    assert found("in/*.onnx") == {"b.onnx": str(tree / "in" / "b.onnx")}
    assert set(found("in/**/*.onnx")) == {"b.onnx", "deep/er/c.onnx"}
    assert set(found("*/*.onnx")) == {"in/b.onnx", "other/x.onnx"}
    with pytest.raises(UsageError, match=r"no \.onnx file there"):
        found("in/*.txt")


def test_a_list_mirrors_what_its_paths_have_in_common(tree: Path) -> None:
    listing = tree / "list.txt"
    listing.write_text(f"in/b.onnx\r\n\n  {tree / 'in' / 'deep' / 'er' / 'c.onnx'}\nin/../in/b.onnx\n")
    assert found("list.txt") == {
        "b.onnx": str(tree / "in" / "b.onnx"),
        "deep/er/c.onnx": str(tree / "in" / "deep" / "er" / "c.onnx"),
    }
    listing.write_text("in/b.onnx")
    assert found("list.txt") == {"b.onnx": str(tree / "in" / "b.onnx")}
    assert found("in/b.onnx") == {"b.onnx": str(tree / "in" / "b.onnx")}


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "no .onnx file there"),
        (b"\x08\x07\x00x", "holds no list of paths"),
        (b"a.onnx\ns3://b/c.onnx", "two lists"),
    ],
)
def test_what_is_no_list_is_refused(tree: Path, content: bytes, part: str) -> None:
    (tree / "list").write_bytes(content)
    with pytest.raises(UsageError, match=part):
        found("list")


def test_urls_are_told_from_paths() -> None:
    assert all(map(is_url, ("s3://a/b", "memory://x", "hf://u/r", "simplecache::s3://a")))
    assert not any(map(is_url, ("a/b", "/a", "C:\\x", "C:/x", "a:b", "://x", "batch")))


def test_a_folder_and_a_list_behind_a_url(tree: Path) -> None:
    pytest.importorskip("fsspec")
    url = (tree / "in").as_uri()
    assert sources.find(url, "file:///elsewhere").paths == {
        name: f"{url}/{name}" for name in ("b.onnx", ".hidden/d.onnx", "deep/er/c.onnx")
    }
    assert set(sources.find(url, f"{url}/deep").paths) == {"b.onnx", ".hidden/d.onnx"}
    (tree / "list").write_text(f"{url}/b.onnx\n{url}/deep/er/c.onnx\n")
    assert set(sources.find((tree / "list").as_uri(), "out").paths) == {"b.onnx", "deep/er/c.onnx"}
    (tree / "list").write_text(f"{url}/../../etc/x.onnx\n{url}/b.onnx\n")
    with pytest.raises(UsageError, match="leads upwards"):
        sources.find((tree / "list").as_uri(), "out")


# --- journal -----------------------------------------------------------------------------------------------

RECORD = Record(name="a.onnx", source="/in/a.onnx", exit_code=0, key="k", files={"a.onnx": "0"})


def test_a_journal_gives_back_what_was_put_in(tmp_path: Path) -> None:
    with journal.opened(LocalDestination(tmp_path)) as log:
        assert (log.past.records, log.past.begun) == ({}, set())
        log.begin("a.onnx")
        log.end(RECORD)
        log.begin("b.onnx")
    with journal.opened(LocalDestination(tmp_path)) as log:
        assert log.past.records == {"a.onnx": RECORD}
        assert log.past.begun == {"b.onnx"}
        assert [log.past.owns(name) for name in ("a.onnx", "b.onnx", "c.onnx")] == [True, True, False]


@pytest.mark.parametrize("cut", [1, 5, 40, 100])
def test_a_torn_last_line_costs_that_line_alone(tmp_path: Path, cut: int) -> None:
    with journal.opened(LocalDestination(tmp_path)) as log:
        log.end(RECORD)
        log.end(Record(name="b.onnx", source="/in/b.onnx", exit_code=2))
    path = tmp_path / journal.NAME
    path.write_bytes(path.read_bytes()[:-cut])
    before = path.read_bytes()
    with journal.opened(LocalDestination(tmp_path)) as log:
        assert set(log.past.records) - {"b.onnx"} == {"a.onnx"}
        assert ("b.onnx" in log.past.records) == (cut == 1)  # only the line's end is missing
        log.end(Record(name="c.onnx", source="/in/c.onnx", exit_code=0))
    assert path.read_bytes().startswith(before)
    with journal.opened(LocalDestination(tmp_path)) as log:
        assert set(log.past.records) - {"b.onnx"} == {"a.onnx", "c.onnx"}


@pytest.mark.parametrize(
    "line",
    [
        "",
        "null",
        "[]",
        "{}",
        '{"event": "end"}',
        '{"event": "begin", "name": 3}',
        "[" * 100000,
        "\x00ÿ",
        '{"event": "end", "name": "x", "source": "y", "exit_code": "0"}',
        '{"event": "end", "name": "x", "source": "y", "exit_code": 0, "files": []}',
    ],
)
def test_what_is_no_event_is_skipped(line: str) -> None:
    past = read([line, '{"event": "begin", "name": "b", "more": 1}'])
    assert (past.records, past.begun) == ({}, {"b"})


def test_a_model_without_outputs_owns_nothing() -> None:
    lines = ['{"event": "begin", "name": "a"}', '{"event": "end", "name": "a", "source": "s", "exit_code": 2}']
    assert not read(lines).owns("a")
    assert read(lines[:1]).owns("a")


# --- fingerprints ------------------------------------------------------------------------------------------


def test_a_fingerprint_covers_the_model_and_its_data(tmp_path: Path) -> None:
    path = put(tmp_path / "m.onnx", external="w.bin")
    first = fingerprint(path)
    assert first.data == {"w.bin": digest(tmp_path / "w.bin")}
    assert first.size == path.stat().st_size + (tmp_path / "w.bin").stat().st_size
    assert fingerprint(path).key("s") == first.key("s") != first.key("t")
    (tmp_path / "w.bin").write_bytes(b"other")
    assert fingerprint(path).key("s") != first.key("s")
    (tmp_path / "w.bin").unlink()
    assert fingerprint(path).data == {"w.bin": ""}


def external(name: str) -> TensorProto:
    tensor = TensorProto(name="t", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="offset", value="0")
    tensor.external_data.add(key="location", value=name)
    return tensor


def test_names_are_found_wherever_a_tensor_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = ModelProto(ir_version=8)
    found.graph.initializer.append(external("a.bin"))
    found.graph.sparse_initializer.add().values.CopyFrom(external("n" * 300))
    body = found.graph.node.add(op_type="If").attribute.add(name="then_branch").g
    body.node.add(op_type="Constant").attribute.add(name="value").t.CopyFrom(external("c.bin"))
    found.functions.add(name="f").node.add().attribute.add(name="v").tensors.append(external("d.bin"))
    path = tmp_path / "m.onnx"
    path.write_bytes(found.SerializeToString())
    for page in (1, 7, 1 << 13):
        monkeypatch.setattr(marks, "_PAGE", page)
        assert data_names(path) == {"a.bin", "n" * 300, "c.bin", "d.bin"}


def test_only_entries_of_tensors_name_files(tmp_path: Path) -> None:
    found = ModelProto(ir_version=8, doc_string="\n\x08location\x12\x05a.bin")
    found.graph.initializer.add(name="w", raw_data=b"\x0a\x08location\x12\x05b.bin")
    found.metadata_props.add(key="location", value="c.bin")
    path = tmp_path / "m.onnx"
    path.write_bytes(found.SerializeToString())
    assert data_names(path) == frozenset()


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=40), st.integers(0, 60))
def test_a_broken_model_names_no_more_than_it_holds(tail: bytes, kept: int) -> None:
    found = ModelProto(ir_version=8)
    found.graph.initializer.append(external("a.bin"))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "m.onnx"
        path.write_bytes(found.SerializeToString()[:kept] + tail)
        names = data_names(path)
        assert all(name.encode("utf-8", "surrogateescape") in path.read_bytes() for name in names)


def test_data_outside_the_models_folder_is_not_read(tmp_path: Path) -> None:
    path = put(tmp_path / "in" / "m.onnx")
    (tmp_path / "secret").write_bytes(b"s")
    (tmp_path / "in" / "fine").write_bytes(b"f")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "secret")
    assert data_file(path, "fine") == tmp_path / "in" / "fine"
    for name in ("../secret", str(tmp_path / "secret"), "link", "none", "a\0b", ".", ""):
        assert data_file(path, name) is None, name


def test_data_in_the_blobs_of_the_same_snapshot_is_read(tmp_path: Path) -> None:
    path = put(tmp_path / "models--a--b" / "snapshots" / "0f" / "m.onnx")
    blob = tmp_path / "models--a--b" / "blobs" / "12"
    for place in (blob, tmp_path / "blobs" / "12"):
        place.parent.mkdir()
        place.write_bytes(b"w")
    (path.parent / "w").symlink_to(blob)
    (path.parent / "away").symlink_to(tmp_path / "blobs" / "12")
    assert data_file(path, "w") == blob
    assert data_file(path, "away") is None


def test_a_folder_that_only_looks_like_a_snapshot_links_nowhere(tmp_path: Path) -> None:
    path = put(tmp_path / "repo" / "snapshots" / "0f" / "m.onnx")
    blob = tmp_path / "repo" / "blobs" / "12"
    blob.parent.mkdir()
    blob.write_bytes(b"w")
    (path.parent / "w").symlink_to(blob)
    assert data_file(path, "w") is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_refused_and_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p.onnx")
    with pytest.raises(LoadError, match="not a regular file"):
        fingerprint(tmp_path / "p.onnx")
