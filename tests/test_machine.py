"""What torch could not do on this machine, told in a line that keeps the cause."""

from __future__ import annotations

import errno
import os

import pytest
import torch
from torch._dynamo.exc import BackendCompilerFailed

from motc.cli.machine import compiler_errors
from motc.cli.output import Stop

COMPILER = """C++ compile error

Command:
g++ header.hpp -Werror -fopenmp

Output:
g++: internal compiler error: File size limit exceeded signal terminated program cc1plus
Please submit a full bug report."""
PLACES = "; its files go to TMPDIR and TORCHINDUCTOR_CACHE_DIR, which may name another disk"


def failed(inner: Exception) -> BackendCompilerFailed:
    return BackendCompilerFailed("inductor", inner, None)


@pytest.mark.parametrize(
    "error, told",
    [
        (
            failed(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))),
            f"OSError: [Errno 28] No space left on device{PLACES}",
        ),
        (failed(RuntimeError(COMPILER)), "internal compiler error: File size limit exceeded signal terminated"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), f"torch cannot write: No space left on device{PLACES}"),
        (MemoryError(), "too little memory"),
        (torch.OutOfMemoryError("CUDA out of memory\nand more"), "too little memory: CUDA out of memory"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes. Error code 12"),
            "too little memory: you tried to allocate 9 bytes",
        ),
    ],
)
def test_the_cause_is_kept(error: Exception, told: str) -> None:
    with pytest.raises(Stop) as caught, compiler_errors():
        raise error
    assert caught.value.code == 1
    assert told in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("error", [RuntimeError("shape"), FileNotFoundError(errno.ENOENT, "No such file", "a.mot")])
def test_other_errors_are_not_its_business(error: Exception) -> None:
    with pytest.raises(type(error)), compiler_errors():
        raise error
