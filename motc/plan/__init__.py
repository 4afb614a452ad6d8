"""IR to a plan of the generated file."""

from motc.plan.mixture import Unit, mixture_units
from motc.plan.module_plan import LayerPlan, LeafPlan, ModulePlan, SublayerPlan
from motc.plan.plan import plan
from motc.plan.views import kernel

__all__ = [
    "LayerPlan",
    "LeafPlan",
    "ModulePlan",
    "SublayerPlan",
    "Unit",
    "kernel",
    "mixture_units",
    "plan",
]
