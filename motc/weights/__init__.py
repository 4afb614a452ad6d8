"""Weights of another implementation as the parameters of a model, and back, by a mapping file.

mapping = read_mapping(path)                                  # which tensor is which parameter, in what form
bijection = bijection_of(mapping, shapes, compile_ir(spec))   # checked: every tensor and every parameter once
parameters = parameters_of(bijection, tensors)                # for `load_state_dict`
tensors = tensors_of(bijection, parameters)
"""

from motc.weights.apply import parameters_of, tensors_of
from motc.weights.bijection import Bijection, Move, bijection_of
from motc.weights.mapping import Rule, WeightMapping, read_mapping

__all__ = [
    "Bijection",
    "Move",
    "Rule",
    "WeightMapping",
    "bijection_of",
    "parameters_of",
    "read_mapping",
    "tensors_of",
]
