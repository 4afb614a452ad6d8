"""Generated modules against the references and the laws of twins, padding and packing."""

from motc.validate.batches import Unsettled
from motc.validate.config import reference_config, tower_config
from motc.validate.laws import validate
from motc.validate.report import Law, Report

__all__ = ["Law", "Report", "Unsettled", "reference_config", "tower_config", "validate"]
