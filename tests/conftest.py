"""Every run of the tests is the same: properties draw the same examples, and whatever draws starts from one seed.

`make fuzz` is the other half, which looks for new examples.
"""

from __future__ import annotations

import gc
import os
import random
import sys
import warnings
from collections.abc import Generator

import pytest
import torch
from hypothesis import settings
from hypothesis.internal.conjecture import providers

from tests.short_rows import cut_short_rows

os.environ.setdefault("TORCH_DYNAMO_RUN_GC_AFTER_COMPILE", "0")  # read when the first model is compiled

gc.disable()  # while modules are imported and tests are found, of which nothing is garbage

cut_short_rows()

# Else it draws what stands in the modules that are there by then, which hangs on what ran before, and reads them all.
vars(providers)["_get_local_constants"] = providers.Constants

settings.register_profile("same", derandomize=True, database=None, deadline=None)
settings.load_profile("same")


@pytest.hookimpl(tryfirst=True)
def pytest_configure() -> None:
    """A plugin that the tests of the language server bring wants an option that pytest, without it, refuses."""
    warnings.filterwarnings("ignore", 'The configuration option "asyncio_default')


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Garbage is looked for seldom, and not among torch and the tests: a tenth of the time that compiling takes.

    What is done before the first test, once all that tests import is there.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 20, 20)
    gc.enable()
    if "torch._dynamo.guards" in sys.modules:  # for a log it times guards, with the processor's caches emptied
        vars(sys.modules["torch._dynamo.guards"])["profile_guard_manager"] = lambda *_: 0.0


@pytest.fixture(autouse=True)
def _seeds() -> None:
    """A test that draws without saying from what draws the same, whichever ran before it."""
    random.seed(0)
    torch.default_generator.manual_seed(0)  # torch.manual_seed also notes a traceback, for devices that are not there


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    """What a model says a release of torch cannot do is no fault there: docs/execution.md has a table of releases."""
    try:
        return (yield)
    except RuntimeError as error:
        if torch.__version__ < "2.13" and "compiled that needs torch 2.13" in str(error):
            pytest.skip(str(error))
        raise
