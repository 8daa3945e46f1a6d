"""The pages that flowscope writes, in a browser: they load nothing, draw every picture, and their controls work."""

from collections.abc import Callable

import pytest

from tests.browser.conftest import PAGES, Opened
from tests.support.fakes import HOSTILE, digits_curve

pytestmark = pytest.mark.browser

Open = Callable[..., Opened]
PHONE = {"width": 360, "height": 740}
DESKTOP = {"width": 1280, "height": 900}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_opens_quietly_whole_and_fits(open_page: Open, name: str, scheme: str) -> None:
    # One scheme from the start: a change swaps the pictures' sources, and none decodes while it is swapped.
    opened = open_page(name, color_scheme=scheme)
    page = opened.page
    widths = page.evaluate("Promise.all([...document.images].map(i => i.decode().then(() => i.naturalWidth)))")
    assert len(widths) >= (name != "reproduction")  # which is tables and links
    assert min(widths, default=1) > 0
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    brightness = sum(int(v) for v in ground.removeprefix("rgb(").removesuffix(")").split(","))
    assert (brightness > 600) == (scheme == "light")
    for viewport in (PHONE, DESKTOP):
        page.set_viewport_size(viewport)
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert opened.complaints == []
    assert [url for url in opened.requests if url != opened.address and not url.startswith("data:")] == []


@pytest.mark.parametrize("name", ["finding", "classes"])
def test_on_a_phone_a_figure_opens_at_full_size_and_wide_tables_say_that_they_scroll(
    open_page: Open, name: str
) -> None:
    opened = open_page(name, viewport={"width": 390, "height": 800})
    page = opened.page
    page.wait_for_load_state()
    sizes = "(i => [i.clientWidth, i.naturalWidth])(document.querySelector('figure > picture img'))"
    narrow, natural = page.evaluate(sizes)
    assert narrow < 390 < natural
    page.get_by_role("button", name="Full size").first.click()
    assert page.evaluate(sizes)[0] == natural
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.get_by_role("button", name="Fit to the page").click()
    assert page.evaluate(sizes)[0] == narrow
    said = page.evaluate(
        "[...document.querySelectorAll('[data-hint]')].map("
        "h => [h.hidden, h.nextElementSibling.scrollWidth > h.nextElementSibling.clientWidth])"
    )
    assert any(wide for _, wide in said) and all(hidden != wide for hidden, wide in said)
    assert opened.complaints == []


def test_each_scheme_has_its_own_figure(open_page: Open) -> None:
    shown = {
        scheme: open_page("classes", color_scheme=scheme).page.evaluate("document.images[0].currentSrc")
        for scheme in ("light", "dark")
    }
    assert shown["light"] != shown["dark"]


def test_the_share_slider_follows_the_formula(open_page: Open) -> None:
    opened = open_page("classes")
    half = digits_curve(2).half.t
    for share in (1, 20, 54, 99):
        opened.page.locator("#share").fill(str(share))
        f = share / 100
        s = half * (1 - f) / (f * (1 - half))
        moved = [s * (k / 50) / (1 + (s - 1) * (k / 50)) for k in range(50)]
        assert float(opened.text("#share-s")) == pytest.approx(s, rel=0.005)
        assert float(opened.text("#share-diffusers")) == pytest.approx(1 / s, rel=0.005)
        assert opened.text("#share-value") == f"{share} %"
        if share != 1:  # there the first step alone, at t = 0
            assert opened.text("#share-steps") == f"{sum(t < half - 1e-9 for t in moved)} of 50"
    assert opened.complaints == []


def test_the_slider_and_the_table_without_a_script_say_the_same(open_page: Open) -> None:
    opened, still = open_page("classes"), open_page("classes", java_script_enabled=False)
    assert not still.page.locator("#share").is_visible()
    for share in (20, 30, 40, 50):
        row = (
            still.page.locator("#schedule tbody tr", has_text=f"{share}\u00a0%")
            .first.locator("th, td")
            .all_inner_texts()
        )
        opened.page.locator("#share").fill(str(share))
        assert row[1:] == [
            opened.text("#share-s"),
            opened.text("#share-diffusers"),
            opened.text("#share-steps").split()[0],
        ]


def test_keys_move_a_slider(open_page: Open) -> None:
    opened = open_page("classes")
    opened.page.locator("#share").focus()
    before = opened.text("#share-value")
    opened.page.keyboard.press("ArrowRight")
    assert (before, opened.text("#share-value")) == ("30 %", "31 %")


def test_values_are_read_out_at_the_chosen_time(open_page: Open) -> None:
    opened, curve = open_page("classes"), digits_curve()
    for k, stage in ((0, "navigation"), (34, "navigation"), (35, "transition"), (48, "transition"), (49, "refinement")):
        opened.page.locator("#moment").fill(str(k))
        assert float(opened.text("#moment-t")) == pytest.approx(curve.t[k], abs=1e-3)
        shown = opened.text("#moment-top1").split(" ± ")
        assert float(shown[0]) == pytest.approx(curve.top1[k], rel=1e-3)
        assert float(shown[1].replace("−", "-")) == pytest.approx(curve.top1_error[k], rel=0.06)
        assert opened.text("#moment-stage") == stage
    opened.page.locator("#moment").fill("0")
    assert opened.text("#moment-log_snr") == "−∞"


def column(opened: Opened, number: int) -> list[str]:
    return list(opened.page.locator(f"table.sortable tbody tr > :nth-child({number})").all_inner_texts())


@pytest.mark.parametrize("press", ["click", "Enter", "Space"])
def test_the_class_table_sorts_by_click_and_by_key(open_page: Open, press: str) -> None:
    opened = open_page("classes")

    def sort(heading: str) -> None:
        button = opened.page.locator("table.sortable th button", has_text=heading).first
        if press == "click":
            button.click()
        else:
            button.focus()
            opened.page.keyboard.press(press)

    assert column(opened, 4) == ["0.440", "0.410", "0.380", "undefined"]
    sort("half")
    assert column(opened, 4) == ["0.380", "0.410", "0.440", "undefined"]
    assert opened.page.locator("th[aria-sort=ascending]").all_inner_texts() == ["half"]
    sort("half")
    assert column(opened, 4) == ["0.440", "0.410", "0.380", "undefined"]
    sort("class")
    assert column(opened, 1)[1:] == ["one", "two", "zero"]
    assert opened.page.locator("th[aria-sort]").count() == 1


@pytest.mark.parametrize("name", ["classes", "class sweep", "finding", "model", "reproduction"])
def test_a_hostile_name_is_words_on_the_page(open_page: Open, name: str) -> None:
    opened = open_page(name)
    assert opened.page.get_by_text(HOSTILE).count() >= 1
    assert opened.complaints == []


def test_values_with_errors_sort_by_the_value(open_page: Open) -> None:
    opened = open_page("finding")
    heading = opened.page.locator("table.sortable th button", has_text="share").first
    heading.click()
    heading.click()
    assert [v.split("\u00a0")[0] for v in column(opened, 2)] == ["1.000", "0.707", "0.548", "0.316", "0.000"]
    assert opened.complaints == []


def test_a_row_of_the_reproduction_leads_to_its_study(open_page: Open) -> None:
    opened = open_page("reproduction")
    link = opened.page.get_by_role("link", name="capacity")
    assert link.evaluate("a => a.href").endswith("/capacity/index.html")
    assert opened.text(".report caption").startswith("Figures and tables")


def test_sizes_sort_as_numbers(open_page: Open) -> None:
    opened = open_page("sweep")
    heading = opened.page.locator("table.sortable th button").first
    heading.click()
    heading.click()
    assert column(opened, 1) == ["1797", "900", "450", "200", "100"]


def test_the_download_is_the_curve(open_page: Open) -> None:
    opened = open_page("classes")
    with opened.page.expect_download() as waiting:
        opened.page.locator("a[download]").first.click()
    assert waiting.value.suggested_filename == "stages.csv"
    assert waiting.value.path().read_text() == digits_curve().to_files()["stages.csv"]


def test_a_printed_page_has_no_controls(open_page: Open) -> None:
    opened = open_page("classes")
    opened.page.emulate_media(media="print")
    assert not opened.page.locator("#share").is_visible()
    assert opened.page.locator("#schedule table").is_visible()


def test_frames_that_scroll_sideways_take_focus(open_page: Open) -> None:
    opened = open_page("pictures", viewport=PHONE)
    frame = opened.page.locator(".scroll.wide").first
    frame.focus()
    opened.page.keyboard.press("End")
    opened.page.keyboard.press("ArrowRight")
    for _ in range(
        100
    ):  # scrolling is smooth; the page's policy forbids the evaluated text that wait_for_function needs
        if frame.evaluate("frame => frame.scrollLeft") > 0:
            return
        opened.page.wait_for_timeout(50)
    pytest.fail("the frame did not scroll")
