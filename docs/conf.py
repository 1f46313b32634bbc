"""The site: ``make docs``. Nothing is fetched, neither while it is built nor by a page that is read."""

import os
import sys
import warnings
from pathlib import Path

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS / "_ext"))

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from public import members_of  # noqa: E402  of docs/_ext

import calepin  # noqa: E402

project = "calepin"
author = "The calepin developers"
project_copyright = author
version = release = calepin.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "myst_parser",
    "sphinx_gallery.gen_gallery",
    "sphinx_design",
    "sphinx_copybutton",
    # docs/_ext
    "public",
    "mathml",
    "commands",
    "experiments",
    "items",
    "start",
    "offline",
]
exclude_patterns = ["_build", "**/GALLERY_HEADER.rst", "**/*.py", "**/*.ipynb"]
templates_path = ["_templates"]
suppress_warnings = ["config.cache"]  # the order of examples is a class
nitpicky = True
smartquotes = False  # --range stays --range
toc_object_entries_show_parents = "hide"
nitpick_ignore_regex = [
    # Other libraries: their pages are elsewhere, and are not looked up.
    (r"py:.*", r"(numpy|scipy|sklearn|skimage|torch|matplotlib|h5py|collections|pathlib|copy|pickle)(\..*)?"),
]

# Reference
default_role = "py:obj"  # a single backtick: see docs/_ext/public.py
autosummary_generate = True
autosummary_ignore_module_all = False
autosummary_context = {"members_of": members_of}
autodoc_typehints = "none"  # the docstrings have the types
add_module_names = False
numpydoc_show_class_members = False
numpydoc_xref_param_type = False
numpydoc_use_plots = False

# Markdown
myst_enable_extensions = ["dollarmath", "colon_fence", "deflist", "attrs_inline"]
myst_heading_anchors = 4
myst_links_external_new_tab = False

# Gallery and tutorials. GALLERY is a regular expression: only scripts whose path matches are run.
sphinx_gallery_conf = {
    "examples_dirs": ["../examples", "../tutorials"],
    "gallery_dirs": ["gallery", "tutorials"],
    "filename_pattern": os.environ.get("GALLERY") or r"plot_",
    "ignore_pattern": r"__init__\.py",
    "within_subsection_order": "FileNameSortKey",
    "nested_sections": True,
    "subsection_order": [
        f"../examples/{room}"
        for room in (
            "dictionaries",
            "images",
            "convolutional",
            "spikes",
            "unfolded",
            "generators",
            "untrained",
            "extending",
        )
    ]
    + ["*"],
    "doc_module": ("calepin",),
    "reference_url": {"calepin": None},
    "backreferences_dir": "reference/api/examples",
    "show_memory": False,
    "capture_repr": (),  # a figure is shown, not named
    "write_computation_times": False,  # its pages load scripts from the network
    "show_signature": False,
    "remove_config_comments": True,
    "matplotlib_animations": False,
    "plot_gallery": "True",
    "abort_on_example_error": False,
    "only_warn_on_example_error": False,
    "min_reported_time": 20,
    "parallel": False,
}

# Pages
html_theme = "pydata_sphinx_theme"
html_title = "calepin"
html_static_path = ["_static"]
html_css_files = ["calepin.css"]
html_math_renderer = "mathml"
html_show_sourcelink = False
html_copy_source = False
html_context = {"default_mode": "auto"}  # light or dark as the system is; without it the theme logs an error
html_theme_options = {
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "show_toc_level": 2,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "navigation_with_keys": False,
    "show_prev_next": False,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_sidebars = {"index": []}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_only_copy_prompt_lines = True

warnings.filterwarnings("ignore", message=".*non-interactive", category=UserWarning)  # plt.show()
