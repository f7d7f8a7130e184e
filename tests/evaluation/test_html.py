"""Pages: whole, self-contained, safe with any label, and readable by everyone."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
import torch

import art_ext.evaluation.html
from art_ext.evaluation import AttackResult, CorruptionReport, Indicator, RobustnessReport
from art_ext.evaluation.html import comparison_page, report_page
from art_ext.threat import ThreatModel

VOID = {"meta", "img", "br", "link", "input", "hr"}
SVG = '<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
PNG = b"\x89PNG\r\n\x1a\n..."
HOSTILE = "<script>alert('x')</script> & \"quoted\" _under_ 100 % {{ 7*7 }}"


class Page(HTMLParser):
    """The tags of a page, checked for balance, with its attributes and its text."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.attributes, self.ids, self.words = [], [], [], [], []
        self.html = html
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes nothing, line {self.getpos()[0]}"

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def result(accuracy=0.5, **changes):
    return AttackResult(**({"accuracy": accuracy, "seconds": 1.5, "forwards": 20.0, "backwards": 20.0} | changes))


def sign(name="zero gradients", flagged=False, severity="suspect", **changes):
    given = {"value": 0.8, "threshold": 0.01, "explanation": f"says {name}", "proposal": ""}
    given |= {"source": "Croce 2020, https://arxiv.org/abs/2003.01690."} | changes
    return Indicator(name=name, flagged=flagged, severity=severity, **given)


FAILED = result(None, error="ValueError: no\nmore")
REPORT = RobustnessReport(
    clean_accuracy=0.75,
    survivors=torch.tensor([True, False, True, False]),
    attacks={"FGSM": result(0.75), "PGD-20": result(0.5, n_attacked=3)},
    threat=ThreatModel("linf", 8 / 255),
    suite="fast",
    seed=7,
    labels=torch.tensor([0, 1, 1, 1]),
    clean_predictions=torch.tensor([0, 1, 1, 2]),
    predictions=torch.tensor([0, 2, 1, 2]),
    versions={"torch": "2.15"},
    indicators=(sign(),),
    command="art-ext evaluate --seed 7",
)
BROKEN = (sign("first"), sign("second", flagged=True), sign("third", flagged=True, severity="broken evaluation"))
CASES = {
    "trusted": REPORT,
    "suspect": replace(REPORT, indicators=(sign(flagged=True),)),
    "broken": replace(REPORT, indicators=BROKEN),
    "no indicators": replace(REPORT, indicators=()),
    "indicator not measured": replace(REPORT, indicators=(sign(value=None),)),
    "one attack failed": replace(REPORT, attacks=REPORT.attacks | {"CW": FAILED}),
    "all attacks failed": replace(REPORT, attacks={"CW": FAILED}),
    "one image": replace(REPORT, survivors=torch.tensor([True]), labels=None, clean_predictions=None, predictions=None),
    "40 attacks": replace(REPORT, attacks={f"attack {i}": result(0.5) for i in range(40)}),
    "very long labels": replace(REPORT, attacks={"long" * 100: result(), "many words " * 40: result()}),
    "unicode": replace(REPORT, attacks={"PGD-ℓ∞ ε→½ 日本語 🙂": result()}, suite="öäü"),
    "hostile": replace(
        REPORT,
        attacks={HOSTILE: result(None, error=HOSTILE), "PGD": result()},
        suite=HOSTILE,
        device=HOSTILE,
        command=HOSTILE,
        versions={HOSTILE: HOSTILE},
        indicators=(sign(HOSTILE, flagged=True, source=HOSTILE, explanation=HOSTILE, proposal=HOSTILE),),
    ),
    "ε per example": replace(REPORT, threat=ThreatModel("l2", torch.tensor([0.1, 0.2, 0.3, 0.4]), clip=None)),
    "bare": replace(REPORT, labels=None, clean_predictions=None, predictions=None, versions=None, command=""),
    "randomised": replace(
        REPORT,
        randomised=True,
        eot=20,
        survival=torch.tensor([0.9, 0.2, 1.0, 0.0]),
        attacks={"PGD": result(0.525, std=0.0125)},
    ),
    "1000 classes": replace(
        REPORT,
        survivors=torch.ones(1000, dtype=torch.bool),
        labels=torch.arange(1000),
        predictions=torch.arange(1000),
        clean_predictions=None,
    ),
}
FIGURES = ((HOSTILE, SVG), ("a photograph", PNG))
PAGES = {name: report_page(report, title=HOSTILE, figures=FIGURES) for name, report in CASES.items()}
PAGES["several"] = comparison_page({HOSTILE: REPORT, "broken": CASES["broken"], "failed": CASES["all attacks failed"]})
PAGES["several, hostile"] = comparison_page({"a": CASES["hostile"], HOSTILE: CASES["hostile"]}, title=HOSTILE)
EVERY_PAGE = pytest.mark.parametrize("html", PAGES.values(), ids=PAGES)


@EVERY_PAGE
def test_is_whole_and_self_contained(html):
    page = Page(html)
    assert not {"script", "link", "iframe", "object", "embed"} & set(page.tags)
    for tag, name, value in page.attributes:
        assert not name.startswith("on")
        assert "://" not in value or (tag, name) == ("a", "href")
        assert name not in ("src", "srcset", "xlink:href") or value.startswith("data:image/")
    css = re.search(r"<style>(.*?)</style>", html, re.DOTALL)[1]
    assert not re.search(r"url\(|@import|http", css)


@EVERY_PAGE
def test_is_accessible(html):
    page = Page(html)
    assert '<html lang="en">' in html
    assert page.tags.count("h1") == page.tags.count("main") == 1
    assert page.tags.count("caption") == page.tags.count("table") > 0
    levels = [int(tag[1]) for tag in page.tags if re.fullmatch(r"h\d", tag)]
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert html.count("<img") == len(re.findall(r'<img [^>]*alt="[^"]+"', html))
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(set(ids)) == len(ids)
    assert {v for _, n, v in page.attributes if n == "aria-labelledby"} <= set(ids)


@EVERY_PAGE
def test_wide_tables_scroll_inside_their_box(html):
    for table in re.finditer(r"<table", html):
        assert html[: table.start()].rstrip().rpartition("\n")[2].startswith('<div class="scroll"')


def test_hostile_text_stays_text():
    page = Page(PAGES["hostile"])
    assert page.text.count(" ".join(HOSTILE.split())) >= 10


@pytest.mark.parametrize(
    "name, word, reason",
    [
        ("trusted", "trusted", "No indicator of masked gradients is flagged. Measured: zero gradients."),
        ("suspect", "suspect", "Zero gradients: says zero gradients"),
        ("broken", "broken evaluation", "Third: says third"),
        ("no indicators", "unchecked", "nothing was flagged, and nothing was checked"),
        ("indicator not measured", "unchecked", "Could not be measured: zero gradients."),
        ("one attack failed", "trusted", "1 of 3 attacks failed; the worst case is without CW."),
        ("all attacks failed", "broken evaluation", "No attack ran to its end: the robust accuracy is not known."),
    ],
    ids=lambda value: value if value in CASES else "",
)
def test_verdict_with_reasons(name, word, reason):
    assert re.search(r'<h2 id="verdict">(.*?)</h2>', PAGES[name])[1] == word
    assert reason in Page(PAGES[name]).text


@pytest.mark.parametrize(
    "name, said",
    [
        ("trusted", "Robust accuracy 50.00 % Attacks suite fast, worst case of 2 attacks Threat ℓ∞, ε = 8/255"),
        ("trusted", "Clean accuracy 75.00 % Attacks none"),
        ("trusted", "4 images, seed 7"),
        ("trusted", "95 % interval 15.0–85.0 %"),
        ("trusted", "PGD-20 50.00 % 3 1.50 20.0 20.0"),
        ("trusted", "To repeat it art-ext evaluate --seed 7"),
        ("trusted", "torch 2.15"),
        ("trusted", "1 3 66.67 % 33.33 % 2 (2×)"),
        ("one image", "1 image, seed 7"),
        ("one attack failed", "worst case of 2 attacks, 1 failed"),
        ("one attack failed", "failed: ValueError: no more"),
        ("all attacks failed", "Robust accuracy not known"),
        ("ε per example", "ℓ2, ε per example"),
        ("ε per example", "Inputs unbounded"),
        ("randomised", "Output randomised: two passes disagree Gradients mean of 20 draws (EOT)"),
        ("randomised", "Robust accuracy 52.50 %"),
        ("randomised", "± 1.25 over the judging draws"),
        ("broken", "Robust accuracy not to be relied on 50.00 %"),
        ("suspect", "Robust accuracy to be confirmed 50.00 %"),
        ("1000 classes", "20 of 1000 classes"),
    ],
)
def test_says(name, said):
    assert said in Page(PAGES[name]).text


@pytest.mark.parametrize(
    "name, unsaid",
    [("bare", "To repeat it"), ("bare", "Accuracy by class"), ("all attacks failed", "nan"), ("trusted", "relied on")],
)
def test_leaves_out(name, unsaid):
    assert unsaid not in Page(PAGES[name]).text


def test_flagged_indicators_come_first_with_source_and_proposal():
    page = report_page(replace(REPORT, indicators=(*BROKEN, sign("last", flagged=True, proposal="Run Square."))))
    names = re.findall(r"<h3>(.*?)</h3>", page)
    assert names == ["third", "second", "last", "first"]
    assert "Next: Run Square." in Page(page).text
    link = '<a href="https://arxiv.org/abs/2003.01690" rel="noreferrer">arxiv.org/abs/2003.01690</a>.'
    assert page.count(link) == 4


@pytest.mark.parametrize(
    "picture, error",
    [("no picture", ValueError), (b"GIF89a", ValueError), (7, TypeError)],
    ids=["text", "GIF", "number"],
)
def test_other_pictures_are_refused(picture, error):
    with pytest.raises(error, match="figure"):
        report_page(REPORT, figures=[("caption", picture)])


def test_other_threat_models_have_a_line_each():
    wide = replace(CASES["suspect"], threat=ThreatModel("l2", 0.5))
    fog = CorruptionReport(clean_accuracy=0.9, severities=(1, 5), accuracies={"fog": (0.8, 0.6)}, n_examples=20)
    text = Page(report_page(CASES["trusted"], further=[wide, fog])).text
    assert "Other threat models" in text
    assert "ℓ2, ε = 0.5" in text
    assert "1 common corruption, severity 1, 5 70.00 % 90.00 % 20 mean –" in text
    assert "Other threat models" not in Page(PAGES["trusted"]).text
    with pytest.raises(TypeError, match="further must hold RobustnessReports and CorruptionReports; got str"):
        report_page(CASES["trusted"], further=["l2"])


def test_comparison_marks_what_is_no_result():
    text = Page(PAGES["several"]).text
    assert "broken † 75.00 % 50.00 %" in text
    assert "Not every model faced the same attacks" in text
    assert "n/a" in text
    assert "nan" not in text.lower()


def test_same_report_same_page(tmp_path):
    REPORT.to_html(tmp_path / "new" / "page.html", title="Mine", figures=FIGURES)
    written = (tmp_path / "new" / "page.html").read_text(encoding="utf-8")
    assert written == report_page(REPORT, title="Mine", figures=FIGURES)
    again = RobustnessReport.from_json(REPORT.to_json())
    assert report_page(again, title="Mine", figures=FIGURES) == written


CSS = (Path(art_ext.evaluation.html.__file__).parent / "page.css").read_text(encoding="utf-8")
THEMES = dict(zip(["light", "dark"], re.findall(r":root \{(.*?)\}", CSS, re.DOTALL)[:2], strict=True))


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("ground", ["paper", "raised"])
@pytest.mark.parametrize("text", ["ink", "soft", "accent", "good", "warn", "bad", "open"])
def test_contrast_is_at_least_aa(theme, ground, text):
    colours = dict(re.findall(r"--(\w+): (#\w{6})", THEMES[theme]))
    low, high = sorted(luminance(colours[name]) for name in (ground, text))
    assert (high + 0.05) / (low + 0.05) >= 4.5
