"""In which order mistakes are told: what explains others comes first."""

from __future__ import annotations

import pytest

from motc.driver import check_spec
from motc.source import SourceFile, SpecError


@pytest.mark.parametrize(
    "name, text",
    [
        ("m.mot", "model m {\n widht = 8\n layers = 1\n modality a { vocab = 4 }\n attention { head = 2 }\n}"),
        ("m.yaml", "model: m\nwidht: 8\nlayers: 1\nmodalities: {a: {vocab: 4}}\nattention: {head: 2}\n"),
    ],
)
def test_what_is_misspelt_is_told_before_what_is_missing_for_it(name: str, text: str) -> None:
    with pytest.raises(SpecError) as stop:
        check_spec(SourceFile(name, text))
    first, second, *others = [each.message for each in stop.value.diagnostics]
    assert (first, second) == ("unknown key `widht`", "unknown key `head`")
    assert others == ["`width` is missing", "`attention.heads` is missing"]
