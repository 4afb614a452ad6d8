"""Systems trained side by side, and how many of the base's steps each needs to be where the base is."""

from motc.match.data import Data, read_data
from motc.match.markdown import spread, to_markdown
from motc.match.report import Report
from motc.match.run import match_systems
from motc.match.settings import MatchError, Settings

__all__ = ["Data", "MatchError", "Report", "Settings", "match_systems", "read_data", "spread", "to_markdown"]
