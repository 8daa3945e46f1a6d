"""The page of an audit: the answer, how far it can be trusted, and the pairs, worst first."""

from flowscope.auditing import Audit
from flowscope.auditing.rule import Share
from flowscope.figures import ratio_figure, to_png
from flowscope.figures.audit import COLUMNS, pair_gallery, pairs_figure
from flowscope.report import prose
from flowscope.report.elements import Cell, Table, figure_and_files, name_cell, number_cell, themed_png
from flowscope.report.finding import GalleryPart
from flowscope.report.formatting import number, with_error
from flowscope.report.page import render
from flowscope.report.plain_text import without_paths
from flowscope.report.provenance import NETWORK_COST, provenance

MAX_ROWS = 100  # pairs in the table of the page; the CSV file has all
COST = NETWORK_COST.split(" and")[0]


def audit_files(result: Audit) -> dict[str, bytes | str]:
    """index.html with its figures, by name; the result's own `to_files` makes CSV and JSON.

    Args:
        result: of :func:`flowscope.auditing.audit`.

    Example:
        >>> import flowscope as fs
        >>> from flowscope.report import audit_files
        >>> points = fs.load("gaussian:N=50,D=3")
        >>> sorted(audit_files(fs.audit(points.rows(slice(0, 5)), points)))
        ['index.html', 'ratios.png', 'ratios.svg']
    """
    files: dict[str, bytes | str] = {}
    ratios = None
    if len(result.ratios[0]):
        ratios, drawn = figure_and_files("ratios", lambda theme: ratio_figure(result, theme), _alt(result))
        files |= drawn
    pairs = GalleryPart("pairs", None, " × ".join(map(str, result.training_set["shape"])))
    if result.shown is not None:
        alt = f"{len(result.shown.samples)} pairs, worst first: {', '.join(COLUMNS)}."
        files["pairs.png"] = to_png(pairs_figure(result))
        pairs = pairs._replace(image=themed_png(lambda theme: pairs_figure(result, theme), alt))
    html = render(
        "audit.html.j2",
        title=f"flowscope audit: {prose.name_of(result)}",
        subtitle=result.summary,
        result=result,
        answer=_answer(result),
        shares=_share_table(result),
        planted=_planted_table(result),
        measures=_measure_table(result),
        ratios=ratios,
        pairs=pairs,
        rows=pair_gallery(result).rows if result.shown is not None else [],
        table=_pair_table(result),
        provenance=provenance(result, COST),
    )
    return {**files, "index.html": html}


def _answer(result: Audit) -> str:
    """The answer in a sentence or two."""
    if result.of_training_set:
        return (
            f"{result.copies:,} of {result.n:,} training points are copies or near-copies of others "
            f"({100 * result.share:.1f} %)."
        )
    said = (
        f"{result.copies:,} of {result.n:,} samples are copies of training points: {100 * result.share:.1f} % "
        f"(95 % interval {100 * result.low:.1f} to {100 * result.high:.1f} %)."
    )
    if result.null is None:
        return f"{said} How many of them are false alarms is not known without held-out points."
    null = result.null
    found = "clearly above that" if result.low > null.high else "not clearly above that"
    return (
        f"{said} Of held-out points the rule calls {100 * null.share:.1f} % copies ({100 * null.low:.1f} to "
        f"{100 * null.high:.1f} %), which is how often it is wrong. The share of the samples is {found}."
    )


def _share_table(result: Audit) -> Table:
    columns = ("rule", "samples", "held-out points")
    third, third_null = result.third
    share = Share(result.share, result.low, result.high)
    rows = [[name_cell("this audit's"), _share_cell(share), _share_cell(result.null)]]
    if not result.of_training_set:
        rows.append([name_cell("d1/d2 < 1/3"), _share_cell(third), _share_cell(third_null)])
    return Table("Share called copies, with its 95 % interval", columns, rows)


def _share_cell(share: Share | None) -> Cell:
    if share is None:
        return Cell("not measured", None)
    return Cell(f"{share.share:.3f} ({share.low:.3f} to {share.high:.3f})", share.share)


def _planted_table(result: Audit) -> Table | None:
    if not result.planted:
        return None
    count = result.settings["planted"]
    rows = [[name_cell(kind), number_cell(share, lambda v: f"{v:.2f}")] for kind, share in result.planted.items()]
    return Table(f"Planted copies that were found, of {count} of each kind at most", ("kind", "share found"), rows)


def _measure_table(result: Audit) -> Table | None:
    if not result.measures:
        return None
    rows = [
        [
            name_cell(found["measure"]),
            Cell(with_error(found["value"], found["error"]), found["value"]),
            Cell(with_error(found["held_out"], found["held_out_error"]), None),
            Cell(f"{found['points']:,}", found["points"]),
        ]
        for found in result.measures
    ]
    return Table(f"In {result.space['features']}", ("measure", "samples", "held-out points", "of samples"), rows)


def _pair_table(result: Audit) -> Table:
    shown = result.pairs[:MAX_ROWS]
    rows = [
        [
            Cell(without_paths(str(pair.sample)), str(pair.sample)),
            Cell(without_paths(str(pair.training)), str(pair.training)),
            number_cell(pair.distance, number),
            number_cell(pair.ratio, number),
            name_cell("yes" if pair.copy else "no"),
        ]
        for pair in shown
    ]
    count = f"{len(shown)} of {len(result.pairs)}; copies.csv has all" if len(shown) < len(result.pairs) else len(shown)
    return Table(f"Pairs: {count}", ("sample", "training", "d1", "d1/d2", "copy"), rows, sortable=len(rows) > 1)


def _alt(result: Audit) -> str:
    return (
        f"Share of samples and of held-out points with a ratio d1/d2 below each value; {result.copies} of "
        f"{result.n} samples lie below the threshold {result.threshold:.3g}."
    )
