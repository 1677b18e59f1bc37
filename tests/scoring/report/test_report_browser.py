"""The page in a real browser: no errors, sorting, nothing fetched or too wide, markup inert."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import pytest

from espnet_saliency.scoring.report import write_report

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM = next((path for path in map(shutil.which, BROWSERS) if path), None)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None,
    reason="NOT TESTED IN A BROWSER: no Chromium found; on Debian: apt-get install -y chromium",
)

PROBE = """
const said = {};
const table = document.getElementById("wer-test_unseen");
const order = () => Array.from(table.tBodies[0].rows, (row) => row.cells[0].textContent.trim());
const header = (column) => table.tHead.rows[0].cells[column];
said.start = order();
const press = (column) => {
  header(column).querySelector("button").click();
  return [order(), Array.from(table.tHead.rows[0].cells, (h) => h.getAttribute("aria-sort"))];
};
said.numeric = press(1);
said.again = press(1);
said.text = press(0);
said.footer = table.tFoot.rows[0].cells[0].textContent.trim();
header(2).querySelector("button").focus();
said.focus = document.activeElement.textContent;
said.wide = [document.documentElement.scrollWidth, window.innerWidth];
said.fetched = performance.getEntriesByType("resource").map((r) => r.name)
  .filter((name) => !name.startsWith("data:"));
said.images = Array.from(document.images, (image) => image.complete && image.naturalWidth);
said.charts = Array.from(document.querySelectorAll("svg.chart"), (svg) => {
  const box = svg.getBoundingClientRect();
  return [svg.closest("figure").id, box.width, box.height, !svg.closest("details:not([open])")];
});
const out = document.createElement("pre");
out.id = "probe";
out.textContent = JSON.stringify(said);
document.body.append(out);
"""


def browse(
    page: Path, tmp_path: Path, width: int = 1280, *more: str
) -> tuple[str, list[str]]:
    """The DOM after loading `page`, and what the page wrote to the console."""
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
         "--no-first-run", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", "--disable-dev-shm-usage", f"--user-data-dir={tmp_path / 'profile'}",
         f"--window-size={width},900", "--enable-logging=stderr", "--dump-dom", *more,
         page.as_uri()],
        capture_output=True, text=True, encoding="utf-8", timeout=120, check=True,
    )
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def probed(page: Path, copy: Path) -> Path:
    """A copy of `page` with the probe at its end; its policy would not let the probe run."""
    text = page.read_text("utf-8")
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    copy.write_text(text.replace("</body>", f"<script>{{{PROBE}}}</script></body>"), "utf-8")
    return copy


@pytest.fixture(scope="module")
def report(tmp_path_factory, make_inputs):
    folder = tmp_path_factory.mktemp("recipe")
    inputs = make_inputs(folder)
    return inputs, write_report(folder / "exp/report", inputs)


@pytest.fixture(scope="module")
def probe(report, tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    dom, console = browse(probed(report[1], folder / "copy.html"), folder)
    assert console == []
    return json.loads(unescape(re.search(r'<pre id="probe">(.*?)</pre>', dom, re.S).group(1)))


def test_the_page_loads_without_a_word_on_the_console(report, tmp_path):
    dom, console = browse(report[1], tmp_path)
    assert console == []
    assert dom.count("<button") > 20  # the script ran under the page's own policy


def test_the_numbers_in_the_page_are_those_of_the_comparison(report, tmp_path):
    inputs, page = report
    dom, _ = browse(page, tmp_path)
    one = inputs.comparison["sets"]["test_unseen"]
    table = re.search(r'id="wer-test_unseen">(.*?)</table>', dom, re.S).group(1)
    for accent in one["accents"]:
        row = re.search(rf"<bdi>{accent}</bdi></th>(.*?)</tr>", table, re.S).group(1)
        said = [float(x) for x in re.findall(r'data-value="([\d.]+)"><bdi>', row)]
        truth = [one["wer"]["arms"][arm]["groups"][accent] for arm in inputs.arms]
        assert said[:3] == [t["rate"] for t in truth]
        for t in truth:
            assert f"<bdi>{t['rate']:.1f}</bdi>" in row
            assert f"<bdi>{t['low']:.1f}&nbsp;to&nbsp;{t['high']:.1f}</bdi>" in row


def test_headers_sort_and_say_so(probe, report):
    inputs = report[0]
    groups = inputs.comparison["sets"]["test_unseen"]["wer"]["arms"]["specaug"]["groups"]
    by_rate = sorted((a for a in groups if a != "overall"), key=lambda a: groups[a]["rate"])
    assert probe["start"] == by_rate[::-1]
    assert probe["numeric"][0] == by_rate
    assert probe["numeric"][1] == [None, "ascending", None, None, None, None]
    assert probe["again"] == [by_rate[::-1], [None, "descending", None, None, None, None]]
    assert probe["text"] == [sorted(by_rate), ["ascending", None, None, None, None, None]]
    assert probe["footer"] == "Overall" and "Saliency masking" in probe["focus"]


def test_nothing_is_fetched_and_every_figure_is_drawn(probe, report):
    assert probe["fetched"] == []
    assert probe["images"] == [480, 480]
    assert len(probe["charts"]) == 9
    for name, width, height, visible in probe["charts"]:
        assert not visible or (width > 250 and height > 50), name


def test_a_phone_scrolls_tables_and_not_the_page(report, tmp_path):
    dom, _ = browse(probed(report[1], tmp_path / "copy.html"), tmp_path, width=380)
    said = json.loads(unescape(re.search(r'<pre id="probe">(.*?)</pre>', dom, re.S).group(1)))
    wide, window = said["wide"]
    assert window <= 520 and wide <= window


def test_markup_in_the_data_does_not_run_and_could_not(
    tmp_path, make_inputs, make_comparison, make_classifier
):
    attack = "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"
    comparison = make_comparison({"test_unseen": [attack, "Thai"]}, speakers=3)
    for one in comparison["worst_utterances"]:
        one["alignment"] = [["S", attack, attack]]
        one["speaker"] = attack
    page = write_report(tmp_path / "report", make_inputs(
        tmp_path, comparison=comparison, classifier=make_classifier([attack, "Thai"]),
        pictures=[{"png": "map.png", "caption": attack}]))
    dom, console = browse(page, tmp_path)
    assert "<title>Saliency masking for accents</title>" in dom and console == []
    # Even unescaped it is stopped by the page's content policy.
    page.write_text(page.read_text("utf-8").replace("<main>", f"<main>{attack}"), "utf-8")
    dom, console = browse(page, tmp_path)
    assert "<title>Saliency masking for accents</title>" in dom
    assert any("Content Security Policy" in line for line in console)


LISTEN = """
addEventListener("message", (said) => {
  const out = document.createElement("pre");
  out.id = "probe";
  out.textContent = said.data;
  document.body.append(out);
});
"""
TELL = """
const bottom = (id) => document.getElementById(id).getBoundingClientRect().bottom;
const sounds = Array.from(document.querySelectorAll("audio"), (audio) => new Promise((done) => {
  audio.onloadedmetadata = () => done(audio.duration);
  audio.onerror = () => done(audio.error.message);
  audio.load();
}));
Promise.all(sounds).then((seconds) => parent.postMessage(JSON.stringify({
  bottoms: ["verdict", "sentence", "accents", "sure"].map(bottom),
  wide: document.documentElement.scrollWidth,
  seconds,
}), "*"));
"""


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])
def test_the_first_screen_answers_and_the_sound_plays(recipe, tmp_path, width, height):
    text = recipe[1].read_text("utf-8")
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    tell = text.replace("</body>", f"<script>{{{TELL}}}</script></body>")
    (tmp_path / "copy.html").write_text(tell, "utf-8")
    # In a frame: a window of the browser cannot be as narrow as a phone.
    frame = f'<iframe src="copy.html" style="width: {width}px; height: {height}px"></iframe>'
    (tmp_path / "frame.html").write_text(f"<body><script>{LISTEN}</script>{frame}</body>", "utf-8")
    dom, console = browse(tmp_path / "frame.html", tmp_path, 1400, "--virtual-time-budget=20000")
    said = json.loads(unescape(re.search(r'<pre id="probe">(.*?)</pre>', dom, re.S).group(1)))
    assert console == []
    assert sorted(said["bottoms"]) == said["bottoms"] and said["bottoms"][-1] < height
    assert said["wide"] <= width
    assert len(said["seconds"]) == 3 and all(abs(s - 0.75) < 0.2 for s in said["seconds"])


def test_the_whole_page_loads_under_its_own_policy(recipe, tmp_path):
    dom, console = browse(recipe[1], tmp_path)
    assert console == [] and dom.count("<audio") == 3 and dom.count("<button") > 100
