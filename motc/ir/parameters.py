"""What anything with parameters says of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import prod


class Parameterised(ABC):
    """Something that has parameters: their names and shapes, their number, and what a token's products cost.

    A matrix product of `in` by `out` costs a token 2 * in * out. Biases, norms and look-ups are not counted.
    """

    __slots__ = ()

    @abstractmethod
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Each parameter's shape by what it is called here, such as `weight` and `bias`."""

    @property
    @abstractmethod
    def flops(self) -> int:
        """Floating-point operations of the products that one token passes through."""

    @property
    def latent_span_flops(self) -> int:
        """Floating-point operations of the products that a span of tokens pays once."""
        return 0

    @property
    def parameters(self) -> int:
        """How many numbers the parameters hold."""
        return sum(prod(shape) for shape in self.shapes().values())

    @property
    def active_parameters(self) -> int:
        """Those that one token passes through."""
        return self.parameters
