"""Batches on a Dask and on a Ray cluster of this machine, with a worker killed half-way: every model accounted for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import onnx
import pytest

from onnx_clp.batch import journal
from onnx_clp.cli.main import main
from tests.batches import ends, put

MODELS = 24
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # of the cluster libraries' own
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="workers are found through /proc"),
]


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # The workers must find the package and the tests as this process does.
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent))
    for at in range(MODELS):
        put(tmp_path / "in" / f"{at:02}.onnx", at, outlier=at % 3 == 0)
    (tmp_path / "in" / "bad.onnx").write_text("not a model")
    return tmp_path


@pytest.fixture
def dask() -> Iterator[str]:
    distributed = pytest.importorskip("distributed", reason="the extra [dask] is not installed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1"
    ) as cluster:
        yield cluster.scheduler_address


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    pytest.importorskip("ray", reason="the extra [ray] is not installed")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    try:
        yield cluster.address
    finally:
        cluster.shutdown()


def processes() -> dict[int, tuple[int, str]]:
    """Parent and command line of every process, by its id."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            found[int(entry.name)] = (parent, line)
    return found


def busy_worker(scratch: Path) -> int:
    """The parent of a process that works on a model in `scratch`; 0 if there is none just now."""
    for parent, line in processes().values():
        if "onnx_clp.batch.start" in line and str(scratch) in line:
            return parent
    return 0


def kill_a_worker_after(count: int, scratch: Path, killed: list[int]) -> None:
    log = scratch / "out" / journal.NAME
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if log.exists() and log.read_text().count('"event": "end"') >= count and (pid := busy_worker(scratch)):
            assert pid != os.getpid()
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)
            return
        time.sleep(0.01)


def check(kind: str, address: str, folder: Path, disturb: Callable[[list[int]], None]) -> None:
    killed: list[int] = []
    killer = threading.Thread(target=disturb, args=(killed,))
    killer.start()
    words = ["batch", str(folder / "in"), str(folder / "out"), "-q", "--no-validate"]
    code = main([*words, "--executor", kind, "--address", address])
    killer.join()
    assert killed
    found = ends(folder / "out")
    assert len(found) == MODELS + 1
    assert {name: one["exit_code"] for name, one in found.items() if one["exit_code"]} == {"bad.onnx": 2}
    assert code == 2
    for at in range(MODELS):
        assert found[f"{at:02}.onnx"]["pruned"] == (at % 3 == 0)
        assert onnx.load(folder / "out" / f"{at:02}.onnx").graph.node[0].op_type == "Conv"
    assert busy_worker(folder) == 0
    left = [path.name for path in (folder / "out").iterdir() if path.name.startswith(".onnx-clp-")]
    assert left == []


def test_a_killed_dask_worker_loses_no_model(models: Path, dask: str) -> None:
    check("dask", dask, models, lambda killed: kill_a_worker_after(5, models, killed))


def test_a_killed_ray_worker_loses_no_model(models: Path, ray: str) -> None:
    check("ray", ray, models, lambda killed: kill_a_worker_after(5, models, killed))


@pytest.mark.parametrize("kind", ["dask", "ray"])
def test_an_address_where_nothing_answers_is_one_line(
    models: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("distributed" if kind == "dask" else "ray", reason=f"the extra [{kind}] is not installed")
    address = "tcp://127.0.0.1:9" if kind == "dask" else "127.0.0.1:9"
    words = ["batch", str(models / "in"), str(models / "out"), "--executor", kind, "--address", address]
    assert main(words) == 2
    assert f"--address {address}: no " in capsys.readouterr().err.splitlines()[-1]
    assert not (models / "out").exists()


@pytest.mark.parametrize("kind", ["dask", "ray"])
def test_a_stopped_batch_leaves_nothing_running_on_the_cluster(
    models: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    address = request.getfixturevalue(kind)
    words = ["in", "out", "-q", "--no-validate", "--executor", kind, "--address", address]
    batch = subprocess.Popen([sys.executable, "-m", "onnx_clp", "batch", *words], cwd=models, stderr=subprocess.PIPE)
    log = models / "out" / journal.NAME
    deadline = time.monotonic() + 120
    while not (log.exists() and log.read_text().count('"event": "end"') >= 3 and busy_worker(models)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    batch.send_signal(signal.SIGTERM)
    _, said = batch.communicate(timeout=60)
    assert (batch.returncode, "the same command goes on from there" in said.decode()) == (143, True)
    while busy_worker(models):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(1)
    assert busy_worker(models) == 0
    assert 3 <= len(ends(models / "out")) < MODELS + 1
