"""Sphinx's configuration of the site; `tools/build_site.py` prepares the folder that Sphinx reads.

Nothing here reaches for the network: fonts, icons, MathJax and the search are files of the site. Of the theme only
what pydata-sphinx-theme has too is used, so that either can serve.
"""

import html
import importlib
import re
import sys
import tomllib
from pathlib import Path

from myst_nb.sphinx_ import HideCodeCellNode

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PUBLISHED = PYPROJECT["tool"]["tensor-to-decision"]
# The name of this package is no Python name.
MATHJAX = Path(importlib.import_module("sphinx-mathjax-offline").__file__).parent / "static" / "mathjax"

project = "From tensor to decision"
author = "The From tensor to decision contributors"
project_copyright = f"{author}; code Apache-2.0, prose and figures CC BY 4.0"
version = release = PYPROJECT["project"]["version"]
language = "en"

extensions = [
    "myst_nb",
    "notfound.extension",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinxext.opengraph",
]
exclude_patterns = ["**/.ipynb_checkpoints"]

# Notebooks as they are stored; widgets would load their manager from a CDN.
nb_execution_mode = "off"
nb_ipywidgets_js = {}
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
# Words such as "low" in the type of a result are no links.
suppress_warnings = ["ref.python"]
python_use_unqualified_type_names = True

html_theme = "sphinx_book_theme"
html_title = project
html_static_path = [str(ROOT / "docs" / "_static"), str(MATHJAX / "tex-svg-full.js")]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
mathjax_path = "tex-svg-full.js"
html_copy_source = False
html_show_sphinx = False
html_use_index = False
html_domain_indices = False
# A page opened from disk may not read another one, which the summaries of found pages need.
html_show_search_summary = False
html_search_scorer = str(ROOT / "docs" / "scorer.js")
html_context = {"default_mode": "auto"}
html_theme_options = {
    "navbar_persistent": [],
    "max_navbar_depth": 2,
    "show_toc_level": 2,
    "use_download_button": False,
    "use_fullscreen_button": False,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
copybutton_exclude = ".linenos, .gp, .go"
notfound_urls_prefix = None

# For the weekly check of links that lead out of the site. Publishers refuse robots.
linkcheck_ignore = [r"http://127\.0\.0\.1.*", r"https://(doi|dl\.acm)\.org/.*"]
linkcheck_anchors = False
linkcheck_retries = 3
linkcheck_timeout = 30

ogp_site_url = PUBLISHED["site"]
ogp_image = "_static/pipeline.png"
ogp_image_alt = "From raw input by preprocessing, model and probability to a decision"
ogp_social_cards = {"enable": False}


def open_fold(translator, node):
    """Write a fold whose name is what stands on it, and not an invisible label."""
    translator.body.append(f'<details class="fold"><summary>{node["prompt_show"]}</summary>\n')


def close_fold(translator, node):
    """End a fold."""
    translator.body.append("</details>\n")


def skip(app, what, name, member, skipped, options):
    """Leave out the methods that scikit-learn writes into each estimator."""
    return skipped or bool(re.fullmatch(r"set_\w+_request|get_metadata_routing", name))


def describe(app, pagename, templatename, context, doctree):
    """Give a lesson the description that its preview has."""
    if said := (context.get("meta") or {}).get("og:description"):
        context["metatags"] += f'<meta name="description" content="{html.escape(said)}" />\n'


def setup(app):
    """Connect the functions above."""
    app.add_node(HideCodeCellNode, override=True, html=(open_fold, close_fold))
    app.connect("autodoc-skip-member", skip)
    # Before the extension for previews, which would describe the page by its first words.
    app.connect("html-page-context", describe, priority=100)
