"""Processes that work together, forked from one that has torch already: importing it takes longer than they do."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable

import torch.multiprocessing as mp

MODULES = ["motc.loading", "torch._dynamo", "torch.distributed.checkpoint", "torch.distributed.fsdp"]


def start_two(worker: Callable[[int, str, int], None], argument: str) -> None:
    """Call `worker(rank, argument, port)` in either, and wait. What one raises comes out."""
    start(2, worker, argument)


def start(processes: int, worker: Callable[[int, str, int], None], argument: str) -> None:
    """The same of so many."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(MODULES)
    port = 20000 + os.getpid() % 20000
    mp.start_processes(worker, args=(argument, port), nprocs=processes, start_method="forkserver")
