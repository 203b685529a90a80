"""How Sphinx builds these pages: `make docs`. It reads them and this repository, nothing else."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]

project = "airflow-provider-mediquo"
author = "The airflow-provider-mediquo maintainers"
version = release = re.search(
    r'__version__ = "(.+)"', (ROOT / "airflow_provider_mediquo" / "__init__.py").read_text()
)[1]

extensions = ["myst_parser"]
exclude_patterns = ["_build"]
myst_heading_anchors = 4

html_theme = "furo"
html_title = f"{project} {version}"
html_show_copyright = False
html_copy_source = False
html_show_sourcelink = False
