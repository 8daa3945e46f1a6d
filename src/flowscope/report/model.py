"""The section of a stage page on a trained model: its samples beside the oracle's, and the study of mixed sampling."""

from typing import Any, NamedTuple

from flowscope.figures import DARK, LIGHT, finding_figure, to_svg
from flowscope.report.finding import claim_section, figure_section, gallery_picture
from flowscope.report.markup import paragraph, section, text
from flowscope.studies.bench.wording import noun


class ModelPart(NamedTuple):
    """What a stage page shows of a model.

    Attributes:
        name: of the model. gallery: as of :func:`flowscope.studies.bench.side_by_side.side_by_side`.
        finding: of the study `switch`. page: where that has its own page, relative to this one; None for none.
        conditional: whether the model is given labels.
    """

    name: str
    gallery: Any
    finding: Any
    page: str | None = None
    conditional: bool = False


def model_sections(part: ModelPart | None) -> str:
    """The sections; nothing without a model."""
    if part is None:
        return ""
    what = noun(part.gallery.images.shape[2:])
    intro = (
        f"The oracle and a trained network ({part.name}), sampled from the same noise. The oracle returns training "
        f"{what}s; what the network makes of the same noise is where it differs. Under both: the training {what} "
        "nearest to the network's sample."
    )
    samples = section("model", "The model beside the oracle", paragraph(intro), gallery_picture(part.gallery))
    link = "" if part.page is None else f'<p><a href="{text(part.page)}">All numbers of this study</a></p>'
    labelled = paragraph(
        "The study measures the oracle's two stages within each class, as the network is given labels; so they may "
        "differ from those of the curve above."
    )
    link = (labelled if part.conditional else "") + link
    claim = claim_section(part.finding, "switch", part.finding.title, link)
    light, dark = (to_svg(finding_figure(part.finding, theme)) for theme in (LIGHT, DARK))
    return samples + claim + figure_section(part.finding, light, dark, "switch-figure", "When the model takes over")
