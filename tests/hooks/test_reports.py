"""Where reports are written."""

import airflow
import pytest
from airflow.sdk.io import attach
from fsspec.implementations.memory import MemoryFileSystem

from airflow_provider_mediquo.api.upload.options import UploadOptions
from airflow_provider_mediquo.hooks.reports import report_files

# In a store, Airflow 3.1 loses a line break at the second join of a path.
A_LINE_BREAK = pytest.param(
    "a\nb",
    marks=pytest.mark.skipif(
        airflow.__version__.startswith("3.1."), reason="Airflow 3.1 loses line breaks"
    ),
)


@pytest.mark.parametrize("name", ["rejects?", "rejects#", "a?x#", "a%20;b", "a/b?/", A_LINE_BREAK])
def test_a_folder_for_reports_keeps_each_character_of_its_name(tmp_path, name):
    attach("memory", fs=MemoryFileSystem())
    for root in (f"{tmp_path}", f"file://{tmp_path}", "memory://bucket"):
        (file,) = report_files(UploadOptions(rejects_path=f"{root}/{name}"), "a.jsonl")
        file.write("{}\n")
    assert (tmp_path / name / "a.jsonl").read_text() == "{}\n" * 2
    (part,) = file.path.fs.find("/bucket")
    assert part.startswith(f"/bucket/{name.rstrip('/')}/a.jsonl/part-")
    file.path.fs.rm("/bucket", recursive=True)
