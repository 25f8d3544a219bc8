"""Settings of the documentation's site: ``make docs``.

The source folder is the root of the clone, so that README.md, SECURITY.md and their links are the same here and on a
code forge. What is made during the build is in ``site_pages.py``.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / 'docs')]

from site_pages import setup  # noqa: E402, F401  (Sphinx calls it)

from emo_mm import __version__  # noqa: E402

project = 'emo_mm'
version = release = __version__
copyright = 'the contributors of emo_mm, Apache-2.0'

root_doc = 'README'
include_patterns = ['README.md', 'CONTRIBUTING.md', 'SECURITY.md', 'CHANGELOG.md', 'docs/**.md', 'docs/**.rst']
exclude_patterns = ['.*', 'build', 'dist', 'work_dirs', 'docs/_build', '**/__pycache__']

extensions = [
    'myst_parser',
    'sphinx.ext.autodoc',
    'sphinx.ext.napoleon',
    'sphinx.ext.viewcode',
    'sphinx_copybutton',
]
myst_enable_extensions = ['linkify']
myst_linkify_fuzzy_links = False
myst_heading_anchors = 3
suppress_warnings = ['myst.header']  # result tables, which tools write, start below the first level

autodoc_member_order = 'bysource'
autodoc_typehints = 'signature'
autodoc_class_signature = 'mixed'
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
toc_object_entries_show_parents = 'hide'
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88

html_theme = 'furo'
html_title = f'emo_mm {__version__}'
html_static_path = ['_static']
html_css_files = ['site.css']
html_additional_pages = {'index': 'index.html'}
templates_path = ['_templates']
html_copy_source = False
copybutton_exclude = '.linenos, .gp, .go'
