"""The documentation site builds without a warning, and its links lead somewhere."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import keras_parc

ROOT = Path(__file__).parents[2]


class _Links(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.links, self.places = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.places.add(attributes.get("id"))
        if tag == "a" and "href" in attributes:
            self.links.append(attributes["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The pages by path, as read from the built site."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return {path: _Links(path.read_text()) for path in folder.rglob("index.html")}


@pytest.mark.slow
def test_links_inside_lead_to_a_page_and_a_place(site):
    checked = 0
    for page, found in site.items():
        for link in found.links:
            parts = urlsplit(link)
            if parts.scheme:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            target = target / "index.html" if target.is_dir() else target
            assert target.is_file(), f"{page}: {link}"
            if parts.fragment and target in site:
                assert unquote(parts.fragment) in site[target].places, f"{page}: {link}"
            checked += 1
    assert checked > 100


@pytest.mark.slow
def test_links_to_the_outside_are_well_formed(site):
    outside = {link for found in site.values() for link in found.links if urlsplit(link).scheme}
    assert outside
    for link in outside:
        parts = urlsplit(link)
        assert parts.scheme == "https", link
        assert re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)+", parts.netloc), link
        assert not re.search(r"[\s<>\"]", link), link


def test_links_of_the_repository_lead_to_a_file():
    """Where it is read without the site; only what the site generates is not there."""
    generated = re.compile(r"(\.\./)?(models/\w+|api/command|paper)\.md")
    pages = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "tflite/README.md")]
    pages += (ROOT / "docs").rglob("*.md")
    checked = 0
    for page in pages:
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            path = link.partition("#")[0]
            if not path or urlsplit(link).scheme or generated.fullmatch(path):
                continue
            assert (page.parent / path).is_file(), f"{page.name}: {link}"
            checked += 1
    assert checked > 30


@pytest.mark.slow
def test_every_preset_has_a_page_with_what_a_user_must_know(site):
    pages = {page.parent.name: page.read_text() for page in site}
    for preset in keras_parc.list_presets():
        text = pages[preset.name]
        for fact in (preset.metric, preset.git_blob, "Intended use and limits", "Measured"):
            assert fact in text, (preset.name, fact)


@pytest.mark.slow
def test_examples_are_shown_as_code(site):
    models = next(page for page in site if page.parent.name == "models" and "api" in page.parts)
    text = re.sub(r"<[^>]+>", "", models.read_text())
    assert "&gt;&gt;&gt; import keras_parc" in text
    assert "Source: arXiv 2203.03952" in text
