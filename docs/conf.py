"""Sphinx settings for `make docs`. The build needs this repository and no network."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]

project = "airflow-provider-mediquo"
author = "The airflow-provider-mediquo maintainers"
version = release = re.search(
    r'__version__ = "(.+)"', (ROOT / "airflow_provider_mediquo" / "__init__.py").read_text()
)[1]

extensions = ["autodoc2", "myst_parser"]
exclude_patterns = ["_build"]
myst_heading_anchors = 4
myst_enable_extensions = ["fieldlist"]  # `:param x:` in docstrings

# The API reference (api.md) is read from the source: autodoc2 imports neither the package nor Airflow.
autodoc2_packages = [{"path": "../airflow_provider_mediquo", "auto_mode": False}]
autodoc2_render_plugin = "myst"
autodoc2_docstring_parser_regexes = [(".*", "myst")]
autodoc2_class_docstring = "both"
autodoc2_class_inheritance = False
autodoc2_hidden_objects = ["undoc", "dunder", "private", "inherited"]
# Methods that Airflow calls, not users.
autodoc2_hidden_regexes = [
    r".*\.(execute|execute_complete|resume_execution|on_kill|poke|serialize|run|read_patients)",
    r".*\.(lineage_inputs|get_openlineage_facets_on_start)",
    r".*\.(get_ui_field_behaviour|get_connection_form_widgets|settings|rename)",
]
# Types by their short names.
autodoc2_replace_annotations = [
    ("Literal[half]", "'half'"),
    *(
        (f"{module}.", "")
        for module in (
            "airflow.providers.common.compat.sdk",
            "airflow_provider_mediquo.api.client",
            "airflow_provider_mediquo.api.report",
            "airflow_provider_mediquo.api.patients.endpoints",
            "collections.abc",
            "datetime",
            "typing",
        )
    ),
]
autodoc2_replace_bases = [("airflow_provider_mediquo.api.errors.", "")]
python_maximum_signature_line_length = 80
# Signatures name types that this site has no page for: Python's, Airflow's, internal ones. Links in
# the pages themselves are still checked.
nitpick_ignore_regex = [(r"py:.*", r".*")]

html_theme = "furo"
html_title = f"{project} {version}"
html_show_copyright = False
html_copy_source = False
html_show_sourcelink = False
