"""A generated model, its dense twin and the reference timed side by side."""

from motc.bench.depths import DepthCompilation, compile_depths
from motc.bench.packing import Packing, pack_of
from motc.bench.portable.batches import ModalityMix, mixtures
from motc.bench.portable.settings import DTYPES, MODES, Mode, Settings
from motc.bench.report import Report, SideKernels, kernels_json
from motc.bench.run import Notify, bench, list_kernels
from motc.bench.subject import Subject

__all__ = [
    "DTYPES",
    "MODES",
    "DepthCompilation",
    "ModalityMix",
    "Mode",
    "Notify",
    "Packing",
    "Report",
    "Settings",
    "SideKernels",
    "Subject",
    "bench",
    "compile_depths",
    "kernels_json",
    "list_kernels",
    "mixtures",
    "pack_of",
]
