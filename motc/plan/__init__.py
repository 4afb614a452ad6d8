"""IR to a plan of the generated file."""

from motc.plan.mixture import Unit, mixture_units
from motc.plan.module_plan import LayerPlan, LeafPlan, ModulePlan
from motc.plan.plan import plan
from motc.plan.views import factors, has_views

__all__ = ["LayerPlan", "LeafPlan", "ModulePlan", "Unit", "factors", "has_views", "mixture_units", "plan"]
