"""IR to a plan of the generated file."""

from motc.plan.mixture import Unit, mixture_units
from motc.plan.module_plan import LayerPlan, LeafPlan, ModulePlan, SublayerPlan
from motc.plan.plan import plan
from motc.plan.views import has_views, kernel

__all__ = [
    "LayerPlan",
    "LeafPlan",
    "ModulePlan",
    "SublayerPlan",
    "Unit",
    "has_views",
    "kernel",
    "mixture_units",
    "plan",
]
