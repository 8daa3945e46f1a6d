"""Velocity fields: the protocol, the checks of a call, and the fields made of fields."""

from flowscope.fields.checks import (
    FLOATS,
    Query,
    check_field,
    check_interval,
    check_query,
    check_shape,
    check_time,
    check_velocity,
)
from flowscope.fields.combine import guide, switch
from flowscope.fields.protocol import VelocityField, ask, evaluations, path_name, shape_of, unchecked

__all__ = [
    "FLOATS",
    "Query",
    "VelocityField",
    "ask",
    "check_field",
    "check_interval",
    "check_query",
    "check_shape",
    "check_time",
    "check_velocity",
    "evaluations",
    "guide",
    "path_name",
    "shape_of",
    "switch",
    "unchecked",
]
