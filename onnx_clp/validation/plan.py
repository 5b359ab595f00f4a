"""How a session of ONNX Runtime is set up: what a proof needs, and what a deployment would choose."""

from __future__ import annotations

import os
from dataclasses import dataclass
from types import ModuleType
from typing import Final

from onnx_clp.validation.mapping import Mapped

_MAX_THREADS: Final = 4
_ARENA_BELOW: Final = 1 << 30
_FOLDER: Final = "session.model_external_initializers_file_folder_path"


@dataclass(frozen=True, slots=True)
class Plan:
    """How a session is set up.

    `many_runs` says that time spent preparing weights pays off; `optimised` lets the runtime rewrite the graph;
    `mapped` leaves the weights in the file where that can be done; `one_thread` is for work too small to share out.
    """

    many_runs: bool = False
    optimised: bool = False
    mapped: bool = False
    one_thread: bool = False


AS_DEPLOYED = Plan(many_runs=True, optimised=True)


def options(ort: ModuleType, size: int, plan: Plan, light: Mapped | None) -> object:
    """ONNX Runtime's options for a model of `size` bytes; graph optimisation is off unless the plan asks for it."""
    chosen = ort.SessionOptions()
    levels = ort.GraphOptimizationLevel
    chosen.graph_optimization_level = levels.ORT_ENABLE_ALL if plan.optimised else levels.ORT_DISABLE_ALL
    chosen.intra_op_num_threads = 1 if plan.one_thread else most_threads()
    chosen.inter_op_num_threads = 1
    chosen.use_deterministic_compute = True
    chosen.log_severity_level = 4
    chosen.enable_cpu_mem_arena = plan.many_runs and size < _ARENA_BELOW  # an arena pays when memory is used again
    chosen.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    chosen.add_session_config_entry("session.intra_op.allow_spinning", "0")
    chosen.add_session_config_entry("session.disable_prepacking", "0" if plan.many_runs else "1")
    if light is not None:
        chosen.add_session_config_entry(_FOLDER, os.fspath(light.folder))
    return chosen


def most_threads() -> int:
    """Threads that a session's layers, or runs side by side, share at most."""
    return min(_MAX_THREADS, available_cpus())


def available_cpus() -> int:
    """CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
