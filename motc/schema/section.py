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
        if not self.model_fields_set:
            return {}
        said = {name: field for name, field in type(self).model_fields.items() if name in self.model_fields_set}
        values = {name: (getattr(self, name), field) for name, field in said.items()}
        return {name: value for name, (value, field) in values.items() if value is not None or takes_none(field)}


def with_default(section: type[Section], name: str, default: Any) -> Any:
    """A key that `section` has without a default, with one; it means the same."""
    return Field(default, description=section.model_fields[name].description)
