"""The part of a stage page on a trained model: its samples beside the oracle's, and the study of mixed sampling."""

from typing import Any, NamedTuple

from flowscope.figures import finding_figure, what_of
from flowscope.report.elements import ThemedImage, themed_svg
from flowscope.report.finding import GalleryPart, draws_errors, figure_alt, gallery_part
from flowscope.studies.bench.wording import noun


class ModelPart(NamedTuple):
    """What a stage page is given of a model.

    Attributes:
        name: of the model.
        gallery: as of :func:`flowscope.studies.bench.side_by_side.side_by_side`.
        finding: of the study `switch`.
        page: where that has its own page, relative to this one; None for none.
        conditional: whether the model is given labels.

    Example:
        >>> from flowscope.report import ModelPart
        >>> ModelPart("my U-Net", gallery=None, finding=None).page is None
        True
    """

    name: str
    gallery: Any
    finding: Any
    page: str | None = None
    conditional: bool = False


class ModelSections(NamedTuple):
    """What a stage page shows of a model.

    Attributes:
        part: as given. noun: what its points are called.
        gallery: its samples. image: the figure of its finding. errors: whether that draws errors.
    """

    part: ModelPart
    noun: str
    gallery: GalleryPart
    image: ThemedImage
    errors: bool


def model_sections(part: ModelPart | None) -> ModelSections | None:
    """The sections of a model; None without one."""
    if part is None:
        return None
    image = themed_svg(lambda theme: finding_figure(part.finding, theme), figure_alt(part.finding))
    called = noun(part.gallery.images.shape[2:])
    return ModelSections(
        part, called, gallery_part(part.gallery, what_of(part.finding)), image, draws_errors(part.finding)
    )
