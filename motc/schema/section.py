"""What every section of a spec is."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field

from motc.schema.values import takes_none


class Section(BaseModel):
    """Frozen, strict (no text for a number, no number for true), and without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Itself: what cannot change needs no copy, and pydantic would copy a default for each section that has it."""
        return self

    def said(self) -> dict[str, Any]:
        """The keys that the section says, with their values. A null says nothing where none is no value of the key."""
        names = self.model_fields_set
        if not names:
            return {}
        fields = type(self).model_fields
        ordered = (name for name in fields if name in names) if len(names) > 1 else names
        values = {name: getattr(self, name) for name in ordered}
        return {name: value for name, value in values.items() if value is not None or takes_none(fields[name])}


def with_default(section: type[Section], name: str, default: Any) -> Any:
    """A key that `section` has without a default, with one; it means the same."""
    return Field(default, description=section.model_fields[name].description)
