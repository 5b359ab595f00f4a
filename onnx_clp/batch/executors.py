"""Where jobs run: threads here that wait for processes, or an existing Dask or Ray cluster.

Each gives futures of `concurrent.futures`, so that one loop serves all. The cluster libraries are imported
here alone, where they are asked for.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal, Protocol

from onnx_clp.batch import launch
from onnx_clp.batch.record import Record, Task
from onnx_clp.batch.work import do
from onnx_clp.errors import UsageError
from onnx_clp.process import signals

Kind = Literal["local", "dask", "ray"]
TRIES_AFTER_DEATH = 3


class Executor(Protocol):
    """Takes jobs; `slots` is how many it should be given at a time."""

    slots: int

    def submit(self, job: Task) -> Future[Record]:
        """Start a job, or queue it."""

    def abort(self, batch: str) -> None:
        """End what still runs of this batch."""


@contextlib.contextmanager
def opened(kind: Kind, address: str | None, jobs: int | None) -> Iterator[Executor]:
    """The executor asked for; `jobs` limits how many models are in work at a time.

    Raises:
        UsageError: its library is not installed, or there is no cluster at `address`.
    """
    if kind == "local":
        from os import cpu_count

        with _local(jobs or cpu_count() or 1) as executor:
            yield executor
        return
    if address is None:
        raise UsageError(f"--executor {kind} needs --address: where the cluster is")
    with (_dask if kind == "dask" else _ray)(address, jobs) as executor:
        yield executor


class _Local:
    def __init__(self, pool: ThreadPoolExecutor, slots: int) -> None:
        self.slots, self._pool = slots, pool

    def submit(self, job: Task) -> Future[Record]:
        """Start a job in a thread that waits for its process."""
        return self._pool.submit(do, job)

    def abort(self, batch: str) -> None:
        """End the processes, which ends the threads."""
        launch.stop(batch)
        self._pool.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def _local(slots: int) -> Iterator[Executor]:
    with ThreadPoolExecutor(slots, thread_name_prefix="onnx-clp-batch") as pool:
        yield _Local(pool, slots)


class _Dask:
    def __init__(self, client: Any, slots: int) -> None:
        self.slots, self._client = slots, client
        self._pool = client.get_executor(pure=False, retries=TRIES_AFTER_DEATH)

    def submit(self, job: Task) -> Future[Record]:
        """Send a job to the scheduler, which sends it on again if its worker dies."""
        future: Future[Record] = self._pool.submit(do, job)
        return future

    def abort(self, batch: str) -> None:
        """Take back what has not begun and end the processes on every worker."""
        self._pool.shutdown(wait=False)
        self._client.run(launch.stop, batch)


@contextlib.contextmanager
def _dask(address: str, jobs: int | None) -> Iterator[Executor]:
    try:
        from distributed import Client
    except ImportError as error:
        raise UsageError("--executor dask needs distributed: pip install 'onnx-clp[dask]'") from error
    try:
        client = Client(address, timeout=30)
    except (OSError, ValueError) as error:
        raise UsageError(f"--address {address}: no Dask scheduler answers: {error}") from error
    with client:
        yield _Dask(client, jobs or max(sum(client.ncores().values()), 1))


class _Ray:
    def __init__(self, ray: Any, slots: int) -> None:
        self.slots, self._ray = slots, ray
        self._do = ray.remote(num_cpus=1, max_retries=TRIES_AFTER_DEATH)(do)
        self._running: dict[Future[Record], Any] = {}

    def submit(self, job: Task) -> Future[Record]:
        """Send a job to the cluster, which runs it again if its worker dies."""
        reference = self._do.remote(job)
        future: Future[Record] = reference.future()
        self._running[future] = reference
        future.add_done_callback(lambda done: self._running.pop(done, None))
        return future

    def abort(self, batch: str) -> None:  # noqa: ARG002 (a killed worker takes its processes with it)
        """End the workers that run this batch's jobs."""
        for reference in list(self._running.values()):
            self._ray.cancel(reference, force=True)


def _knock(address: str) -> None:
    """Raise OSError unless something listens there; the library itself would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        with socket.create_connection((host.strip("[]"), int(port)), timeout=10):
            return


@contextlib.contextmanager
def _ray(address: str, jobs: int | None) -> Iterator[Executor]:
    try:
        import ray
    except ImportError as error:
        raise UsageError("--executor ray needs ray: pip install 'onnx-clp[ray]'") from error
    try:
        _knock(address)
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(f"--address {address}: no Ray cluster answers: {error}") from error
    try:
        signals.catch_again()
        yield _Ray(ray, jobs or max(int(ray.cluster_resources().get("CPU", 1)), 1))
    finally:
        ray.shutdown()
