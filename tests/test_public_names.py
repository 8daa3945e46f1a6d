"""The public names are a promise: a change here is a change of the interface, and belongs in CHANGELOG.md."""

import pytest

import flowscope

# One text rather than a list, so that it is no copy of __all__ line by line.
PUBLIC_NAMES = (
    "FlowscopeError InputError Monitor Oracle Path Posterior StageCurve TrainingSet VelocityField as_field audit "
    "convert guide load load_model sample stages switch"
)


def test_the_public_names_are_pinned() -> None:
    assert " ".join(sorted(flowscope.__all__)) == PUBLIC_NAMES


def test_public_names_are_listed_once_and_exist() -> None:
    assert len(flowscope.__all__) == len(set(flowscope.__all__))
    assert [name for name in flowscope.__all__ if not hasattr(flowscope, name)] == []


def test_public_names_are_what_their_rooms_call_so() -> None:
    assert flowscope.sample is flowscope.sampling.sample
    assert flowscope.stages is flowscope.curve.stages
    assert set(dir(flowscope)) >= {*flowscope.__all__, "__version__", "data"}
    with pytest.raises(AttributeError, match="has no attribute 'nosuch'"):
        flowscope.nosuch  # noqa: B018


def test_every_public_object_says_what_it_is() -> None:
    objects = {name: getattr(flowscope, name) for name in flowscope.__all__}
    assert [name for name, value in objects.items() if callable(value) and not value.__doc__] == []
