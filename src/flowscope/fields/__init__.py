"""Velocity fields: the protocol, the checks of a call, and the fields made of fields."""

from flowscope.fields.checks import (
    FLOATS,
    MAX_TIME,
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
from flowscope.fields.guidance import guide
from flowscope.fields.protocol import (
    VelocityField,
    allows_end,
    ask,
    at_step,
    evaluations,
    path_name,
    shape_of,
    unchecked,
)
from flowscope.fields.switching import switch

__all__ = [
    "FLOATS",
    "MAX_TIME",
    "Query",
    "VelocityField",
    "allows_end",
    "ask",
    "at_step",
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
    "times_of_rows",
    "unchecked",
]
