"""The report in a real browser: it opens, filters, follows links, works by keyboard, and escapes what it shows."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from runs import make_episode, with_question, write_run

from kintsugi.look.report import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium: `make browser` installs it")
HOSTILE = "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=1>\u202e\x1b"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Three steps; the second is hostile."""
    evil = with_question(make_episode(HOSTILE + "4", HOSTILE + "5"), HOSTILE)
    place = write_run(tmp_path_factory.mktemp("report") / "run", make_episode(), evil, make_episode())
    return write_report(place).as_uri()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    context = browser.new_context()
    opened = context.new_page()
    said: list[str] = []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on(
        "request", lambda r: said.append(r.url) if not r.url.startswith(("file:", "data:", "blob:")) else None
    )
    yield opened
    assert said == []  # no errors, no warnings, nothing asked of any network
    context.close()


def ready(page: Any, url: str) -> None:
    page.goto(url)
    page.wait_for_selector("html[data-ready]")


def count(page: Any, expected: str) -> None:
    page.wait_for_function("(e) => document.querySelector('#count').textContent.startsWith(e)", arg=expected)


def test_it_opens_on_the_mended_failures(page: Any, report: str) -> None:
    ready(page, report)
    assert page.inner_text("h1") == "run"
    count(page, "3 of 9 rollouts")  # one mended failure a step; three rollouts a step
    first = page.locator(".card").first
    assert "Corrected at token 7: “4” became “5”. 1 of 1 edit trained on (K* = 1)." in first.inner_text()
    assert "accepted: it passes the verifier and every audit rule, distance 0.12" in first.inner_text()
    assert first.locator(".tok.seam.blame").text_content() == "4"
    assert first.locator(".tok.seam.praise").text_content() == "5"


def test_filters_and_search_narrow_what_is_shown(page: Any, report: str) -> None:
    ready(page, report)
    page.select_option("select[name=fate]", "rejected")
    count(page, "3 of 9")
    page.select_option("select[name=step]", "3")
    count(page, "1 of 9")
    assert "Not mended: rejected by the audit (answer_only)" in page.locator(".card .why").inner_text()
    page.select_option("select[name=audit]", "answer_only")
    count(page, "1 of 9")
    page.click("button[type=reset]")
    count(page, "9 of 9")
    page.fill("input[name=q]", "#### 9")  # rollout 2 of every step
    count(page, "3 of 9")
    page.fill("input[name=q]", "nowhere")
    count(page, "0 of 9 rollouts: none matches")


def test_links_lead_from_a_curve_to_a_step_a_problem_and_a_token(page: Any, report: str) -> None:
    ready(page, report)
    page.locator('a[href="#step=3"]').first.click()
    count(page, "1 of 9")
    assert page.input_value("select[name=step]") == "3"
    page.locator(".card h3 a").click()
    page.wait_for_function("location.hash.includes('problem=p%2F1')")
    page.locator(".card .tok.seam.blame").click()
    detail = page.locator(".card .detail").inner_text()
    for fact in (
        "token 7 “4”",
        "log-probability -0.500",
        "in the seam",
        "credit seam −10.00",
        "replaced by “5”",
    ):
        assert fact in detail
    shared = page.url
    assert "token=7" in shared
    page.goto("about:blank")
    ready(page, shared)  # the address alone brings someone else there
    page.wait_for_selector(".tok.chosen")
    assert page.locator(".tok.chosen").text_content() == "4"


def test_what_a_model_wrote_stays_text(page: Any, report: str) -> None:
    ready(page, f"{report}#step=2&fate=mended")
    assert page.evaluate("window.hacked") is None
    text = page.locator(".card .text").nth(1).text_content()
    assert "</script><script>window.hacked=1</script><img src=x" in text
    assert "\\u202e\\u001b" in text and "\u202e" not in text
    assert page.locator(".card img").count() == 0


def test_it_is_used_without_a_mouse(page: Any, report: str) -> None:
    ready(page, report)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    page.wait_for_function("document.activeElement.id === 'seams'")
    page.locator('figure a[href="#step=1"]').first.focus()
    page.keyboard.press("Enter")
    count(page, "1 of 9")
    page.locator(".card .tok.seam.blame").first.focus()
    page.keyboard.press("ArrowLeft")
    assert "token 6" in page.locator(".card .detail").first.inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_narrow_screen_in_light_and_dark(browser: Any, report: str, scheme: str) -> None:
    context = browser.new_context(viewport={"width": 375, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    ready(page, report)
    assert page.evaluate("document.documentElement.scrollWidth") == 375
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == {"light": "rgb(251, 249, 244)", "dark": "rgb(22, 22, 26)"}[scheme]
    page.click("#theme")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != paper
    context.close()


def test_a_link_to_a_token_lands_on_it_even_on_a_phone(browser: Any, report: str) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, reduced_motion="reduce")
    page = context.new_page()
    ready(page, f"{report}#step=1&problem=p%2F1&rollout=0&side=repaired&token=7")
    token = page.locator(".tok.chosen")
    assert token.text_content() == "5"
    page.wait_for_function("() => scrollY > 0")
    box = token.bounding_box()
    assert 0 <= box["y"] <= 844 - box["height"]
    context.close()


def test_words_are_explained_and_a_rejected_repair_says_why(page: Any, report: str) -> None:
    ready(page, report)
    page.locator(".howto summary").click()
    told = page.inner_text(".howto")
    for word in ("seam", "anchor", "seam, K*", "sibling", "distance", "audit", "final answer alone"):
        assert word in told, word
    page.select_option("select[name=fate]", "rejected")
    count(page, "3 of 9")
    why = page.locator(".card .why").first.inner_text()
    assert why == "Not mended: rejected by the audit (answer_only); the verifier said pass."
