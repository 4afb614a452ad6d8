"""IR to a plan of the generated file."""

from motc.plan.mixture import Unit, mixture_units
from motc.plan.module_plan import LayerPlan, LeafPlan, ModulePlan
from motc.plan.plan import plan

__all__ = ["LayerPlan", "LeafPlan", "ModulePlan", "Unit", "mixture_units", "plan"]
