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
    is_within,
    times_of_rows,
)
from flowscope.fields.combine import guide, switch
from flowscope.fields.protocol import VelocityField, ask, evaluations, path_name, shape_of, takes_labels, unchecked

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
    "is_within",
    "path_name",
    "shape_of",
    "switch",
    "takes_labels",
    "times_of_rows",
    "unchecked",
]
