"""An embedding whose vectors are multiplied with a number."""

from torch import Tensor, nn


class ScaledEmbedding(nn.Embedding):
    """A table of vectors that are multiplied with `scale`, rounded to their dtype, as Gemma's are."""

    def __init__(self, vocab: int, width: int, scale: float) -> None:
        super().__init__(vocab, width)
        self.scale = scale

    def forward(self, input: Tensor) -> Tensor:
        vectors = super().forward(input)
        return vectors * vectors.new_full((), self.scale)
