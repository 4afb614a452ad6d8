"""IR to a plan of the generated file."""

from motc.plan.module_plan import LayerPlan, LeafPlan, ModulePlan
from motc.plan.plan import plan

__all__ = ["LayerPlan", "LeafPlan", "ModulePlan", "plan"]
