"""Two processes that work together, forked from one that has torch already: importing it takes longer than they do."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable

import torch.multiprocessing as mp

MODULES = ["motc.loading", "torch._dynamo", "torch.distributed.checkpoint", "torch.distributed.fsdp"]


def start_two(worker: Callable[[int, str, int], None], argument: str) -> None:
    """Call `worker(rank, argument, port)` in either, and wait. What one raises comes out."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(MODULES)
    mp.start_processes(worker, args=(argument, 20000 + os.getpid() % 20000), nprocs=2, start_method="forkserver")
