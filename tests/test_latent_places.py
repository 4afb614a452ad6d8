"""What is learnt of places: the middle of a table, or all of it, as transformers' ViT interpolates its own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import ViTConfig
from transformers.models.vit.modeling_vit import ViTEmbeddings

import motc
from codegen_templates.latent_places import PlaceTable
from motc.source import SpecError

SPEC = """
model places {
  width = 16, layers = 1
  modality image { latent { channels = 2, patch = 2, objective = flow, time = none, LEARNED } }
  attention { heads = 2, mask = full, rope = none }
}
"""


def load(learned: str) -> Any:
    return motc.load(SPEC.replace("LEARNED", learned), dtype=torch.float64)


@pytest.mark.parametrize("grid", [(4, 4), (6, 3), (2, 9)])
def test_a_table_is_interpolated_as_vit_does(grid: tuple[int, int]) -> None:
    config = ViTConfig(hidden_size=8, image_size=8, patch_size=2, num_channels=3)
    theirs = ViTEmbeddings(config).double()
    torch.nn.init.normal_(theirs.position_embeddings)
    table = PlaceTable(4, 4, 8, interpolated=True).double()
    table.weight.data.copy_(theirs.position_embeddings.data[0, 1:])
    height, width = (2 * side for side in grid)
    embeddings = torch.zeros(1, 1 + grid[0] * grid[1], 8, dtype=torch.float64)
    expected = theirs.interpolate_pos_encoding(embeddings, height, width)[0, 1:]
    torch.testing.assert_close(table.of(grid, embeddings), expected, rtol=0, atol=1e-12)


def test_a_smaller_image_has_the_middle_of_a_table() -> None:
    model = load("learned { rows = 6, columns = 4 }")
    table = model.latents["image"].table
    middle = table.weight.view(6, 4, 16)[2:4, 1:4].flatten(0, 1)
    assert torch.equal(table.of((2, 3), middle), middle)
    ids = torch.zeros(1, 15, dtype=torch.int64)
    given = {"latents": {"image": torch.zeros(1, 2, 10, 6)}, "timesteps": {"image": torch.tensor([1.0])}}
    with pytest.raises(ValueError, match="8 x 3 patches, and its table 6 x 4 places"):
        table.of((8, 3), middle)
    assert model(ids, ids, **given).predictions["image"].shape == (1, 2, 10, 6)


@pytest.mark.parametrize(
    "learned, said",
    [
        ("learned { rows = 4 }, sine { }", "by sines, and by what is learnt"),
        ("patch = [2], learned { rows = 4 }", "what is learnt of places is added to images' tokens"),
        ("time = added, ends = unet, learned { rows = 4 }", "what is learnt of places is added to images' tokens"),
    ],
)
def test_tables_that_say_nothing_are_refused(learned: str, said: str) -> None:
    text = SPEC.replace("time = none, ", "").replace("patch = 2, ", "" if "patch" in learned else "patch = 2, ")
    with pytest.raises(SpecError, match=said):
        motc.load(text.replace("LEARNED", learned))
