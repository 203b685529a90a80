"""Which files a path means, on this machine's disk and in a store."""

import os
from contextlib import closing
from unittest.mock import Mock

import pytest
from fsspec.implementations.local import LocalFileSystem

from airflow_provider_mediquo.api.errors import InvalidPatientsError, SourceError
from airflow_provider_mediquo.sources.files.discovery import find_files


@pytest.fixture
def make(tmp_path):
    """Make empty files below `tmp_path`."""

    def make(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()

    return make


def found(path, root):
    return [file.key.removeprefix(f"{root}/") for file in find_files(str(path))]


def test_a_file_is_itself(make, tmp_path):
    make("a.csv", "b.csv")
    assert found(tmp_path / "a.csv", tmp_path) == ["a.csv"]


def test_a_folder_is_all_that_is_below_it_by_name(make, tmp_path):
    make("b.csv", "a/2/z.csv", "a/10/y.csv", "c")
    assert found(tmp_path, tmp_path) == ["a/10/y.csv", "a/2/z.csv", "b.csv", "c"]


def test_but_what_spark_and_others_leave_next_to_the_data(make, tmp_path):
    make(
        "a.csv",
        "_SUCCESS",
        ".a.csv.crc",
        "_logs/0/part.csv",
        ".hidden/b.csv",
        ".a.csv.backup",
        ".a.csv.sha256",
    )
    assert found(tmp_path, tmp_path) == ["a.csv"]


def test_a_folder_whose_name_has_a_value_is_data_whatever_it_begins_with(make, tmp_path):
    """As for Spark, whose columns may begin with `_`; members in them were left out."""
    make("_day=1/a.csv", "_day=1/_SUCCESS", "_day=2/_logs/b.csv", ".day=3/c.csv")
    for path in (tmp_path, f"{tmp_path}/*", f"{tmp_path}/**/*.csv"):
        assert found(path, tmp_path) == ["_day=1/a.csv"]


def test_a_folder_itself_may_have_the_name_of_an_upload_in_progress(make, tmp_path):
    make("import.tmp/a.csv", "import.tmp/sub/b.csv")
    names = ["import.tmp/a.csv", "import.tmp/sub/b.csv"]
    assert found(tmp_path / "import.tmp", tmp_path) == names
    assert found(f"{tmp_path}/import.tmp/sub", tmp_path) == names[1:]


def test_nor_does_its_name_allow_half_an_upload_below_it(make, tmp_path):
    make("import.tmp/a.csv", "import.tmp/b.csv.part")
    for path in ("import.tmp", "import.tmp/*"):
        with pytest.raises(SourceError, match="upload in progress"):
            found(tmp_path / path, tmp_path)
    assert found(tmp_path / "import.tmp" / "*.part", tmp_path) == ["import.tmp/b.csv.part"]


def test_a_folder_itself_may_have_such_a_name(make, tmp_path):
    make("_out/a.csv", ".out/b.csv")
    assert found(tmp_path / "_out", tmp_path) == ["_out/a.csv"]
    assert found(tmp_path / ".out" / "b.csv", tmp_path) == [".out/b.csv"]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*.csv", ["a.csv", "b.csv"]),
        ("[ac]*", ["a.csv", "c.txt"]),
        ("?.txt", ["c.txt"]),
        ("day-*", ["day-1/x.csv", "day-2/sub/y.csv"]),
        ("day-*/*.csv", ["day-1/x.csv"]),
        ("**/*.csv", ["a.csv", "b.csv", "day-1/x.csv", "day-2/sub/y.csv"]),
        ("**", ["a.csv", "b.csv", "c.txt", "day-1/x.csv", "day-2/sub/y.csv"]),
        ("_*", ["_SUCCESS"]),
    ],
)
def test_a_glob_is_what_it_matches_each_once(make, tmp_path, pattern, names):
    make("b.csv", "a.csv", "c.txt", "_SUCCESS", ".x", "day-1/x.csv", "day-2/sub/y.csv")
    assert found(tmp_path / pattern, tmp_path) == names


@pytest.mark.parametrize("pattern", ["**/*.csv", "**", "*/*.csv"])
def test_a_glob_leaves_out_what_a_folder_leaves_out(make, tmp_path, pattern):
    make("day/a.csv", "day/_logs/0/b.csv", ".snap/c.csv")
    assert found(f"{tmp_path}/{pattern}", tmp_path) == ["day/a.csv"]
    assert found(f"{tmp_path}/.snap/*.csv", tmp_path) == [".snap/c.csv"]
    assert found(f"{tmp_path}/*/_logs/*/*", tmp_path) == ["day/_logs/0/b.csv"]


def test_links_to_folders_are_read(make, tmp_path):
    make("in/a.csv", "2026-11-22/b.csv")
    os.symlink(tmp_path / "2026-11-22", tmp_path / "in" / "current")
    assert found(tmp_path / "in", tmp_path) == ["in/a.csv", "in/current/b.csv"]
    assert found(tmp_path / "in" / "cur*", tmp_path) == ["in/current/b.csv"]


def test_a_folder_is_read_once_whatever_leads_to_it(make, tmp_path):
    make("in/2026-11-22/a.csv", "in/b.csv")
    os.symlink(tmp_path / "in" / "2026-11-22", tmp_path / "in" / "current")
    os.symlink(tmp_path / "in", tmp_path / "in" / "2026-11-22" / "again")
    os.symlink(".", tmp_path / "in" / "self")
    os.symlink(tmp_path / "in", tmp_path / "link")
    assert found(tmp_path / "in", tmp_path) == ["in/2026-11-22/a.csv", "in/b.csv"]
    assert found(tmp_path / "link", tmp_path) == ["link/2026-11-22/a.csv", "link/b.csv"]


def test_links_that_multiply_do_not(make, tmp_path):
    make("folder-40/a.csv")
    for number in range(40):
        folder = tmp_path / f"folder-{number}"
        folder.mkdir()
        for name in ("one", "two"):
            os.symlink(tmp_path / f"folder-{number + 1}", folder / name)
    assert found(tmp_path / "folder-0", tmp_path) == [f"folder-0/{'one/' * 40}a.csv"]


@pytest.mark.parametrize("name", ["a[1].csv", "what?.csv", "a*b.csv", "a b#1@c.csv", "ñ.csv"])
def test_what_is_there_under_a_name_is_no_glob(make, tmp_path, name):
    make(name, "a1.csv", "whatx.csv", "axb.csv")
    assert found(tmp_path / name, tmp_path) == [name]
    assert found(f"file://{tmp_path}/{name}", tmp_path) == [name]


def test_a_relative_path_begins_where_the_worker_is(make, tmp_path, monkeypatch):
    make("in/a.csv")
    monkeypatch.chdir(tmp_path)
    assert found("in/../in", tmp_path) == ["in/a.csv"]


def test_links_to_files_are_read(make, tmp_path):
    make("kept/a.csv", "folder/b.csv")
    (tmp_path / "folder" / "a.csv").symlink_to(tmp_path / "kept" / "a.csv")
    assert found(tmp_path / "folder", tmp_path) == ["folder/a.csv", "folder/b.csv"]


@pytest.mark.parametrize("name", ["a.csv", "empty", "*.csv", "only-hidden"])
def test_nothing_may_come_later(make, tmp_path, name):
    make("only-hidden/_SUCCESS")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match=r"There is no file at .* yet") as caught:
        find_files(str(tmp_path / name))
    assert caught.value.can_retry
    assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize("path", ["", "  "])
def test_no_path_is_not_the_folder_where_the_worker_is(path):
    with pytest.raises(InvalidPatientsError, match="`path` is empty"):
        find_files(path)


@pytest.fixture
def nobody(tmp_path):
    """Be somebody who may not read everything."""
    if os.geteuid():
        yield
        return
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_mode & 0o005 != 0o005:
            os.chmod(folder, 0o755)
    os.seteuid(65534)
    yield
    os.seteuid(0)


def test_a_folder_that_may_not_be_read_is_not_left_out(make, tmp_path, request):
    make("a.csv", "b/c.csv")
    (tmp_path / "b").chmod(0)
    request.getfixturevalue("nobody")
    problem = rf"Cannot list {tmp_path}/b: PermissionError\.\nThe storage says: .*Permission denied"
    with pytest.raises(SourceError, match=problem):
        find_files(str(tmp_path))


def test_a_storage_that_is_not_known_says_why():
    problem = r"Cannot list nowhere://a: ValueError\.\nThe storage says: .*nowhere"
    with pytest.raises(SourceError, match=problem):
        find_files("nowhere://a")


def test_an_error_without_a_text_is_its_name(tmp_path, monkeypatch):
    class Odd(Exception):
        def __len__(self):  # which makes it false
            return 0

    monkeypatch.setattr(LocalFileSystem, "info", Mock(side_effect=Odd))
    with pytest.raises(SourceError) as caught:
        find_files(str(tmp_path))
    assert str(caught.value) == (
        f"Cannot list {tmp_path}: Odd.\nThe storage says: nothing that can be shown."
    )


# --- in a store -----------------------------------------------------------------------------------


@pytest.fixture
def store(s3_bucket, monkeypatch):
    """A bucket, and a connection `clinic_files` that leads to it."""
    monkeypatch.setenv("AIRFLOW_CONN_CLINIC_FILES", s3_bucket.json())
    with closing(s3_bucket.client()) as client:
        for key in ("in/", "in/b.csv", "in/sub/a.csv", "in/_SUCCESS", "other/c.csv"):
            client.put_object(Bucket=s3_bucket.bucket, Key=key, Body=b"")
    return s3_bucket


@pytest.mark.no_cover
@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("in", ["in/b.csv", "in/sub/a.csv"]),
        ("in/", ["in/b.csv", "in/sub/a.csv"]),
        ("in/b.csv", ["in/b.csv"]),
        ("in/*.csv", ["in/b.csv"]),
        ("*/*.csv", ["in/b.csv", "other/c.csv"]),
        ("", ["in/b.csv", "in/sub/a.csv", "other/c.csv"]),
    ],
)
def test_a_bucket_is_looked_through_in_the_same_way(store, path, names):
    files = find_files(f"s3://{store.bucket}/{path}", "clinic_files")
    assert [file.shown(bool) for file in files] == [f"s3://{store.bucket}/{name}" for name in names]


def test_the_connection_may_be_in_the_url(store):
    (file,) = find_files(f"s3://clinic_files@{store.bucket}/in/b.csv")
    assert file.shown(bool) == f"s3://{store.bucket}/in/b.csv"


@pytest.mark.parametrize("name", ["in/c.csv", "nothing", "in/*.txt"])
def test_an_object_may_come_later(store, name):
    with pytest.raises(SourceError, match="There is no file at"):
        find_files(f"s3://{store.bucket}/{name}", "clinic_files")


def test_an_object_that_stands_for_a_hidden_folder_is_not_said_to_be_skipped(store, caplog):
    caplog.set_level("INFO")
    with closing(store.client()) as client:
        for key in ("_old/", "_old/c.csv"):
            client.put_object(Bucket=store.bucket, Key=key, Body=b"")
    assert len(find_files(f"s3://{store.bucket}/_old", "clinic_files")) == 1
    assert not [line for line in caplog.messages if line.startswith("Skipped")]


def test_a_bucket_that_is_not_there(store):
    with pytest.raises(SourceError, match="no-such-bucket/in"):
        find_files("s3://no-such-bucket/in", "clinic_files")


def put(store, *keys, content=b"x"):
    with closing(store.client()) as client:
        for key in keys:
            client.put_object(Bucket=store.bucket, Key=key, Body=content)


def keys(store, path):
    files = find_files(f"s3://clinic_files@{store.bucket}/{path}")
    return [file.key.removeprefix(f"{store.bucket}/") for file in files]


@pytest.mark.no_cover
def test_a_second_look_at_a_folder_sees_what_came_since(store):
    """`dag.test()` runs all tasks in one process, where s3fs keeps each listing."""
    assert keys(store, "other") == keys(store, "other/*") == ["other/c.csv"]
    put(store, "other/d.csv")
    assert keys(store, "other") == ["other/c.csv", "other/d.csv"]
    put(store, "other/e.csv")
    assert keys(store, "other/*") == ["other/c.csv", "other/d.csv", "other/e.csv"]


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("2026-1?", ["2026-10/a.csv", "2026-11/a.csv"]),
        ("in#", ["in#/a.csv"]),
        ("in?", ["in#/a.csv"]),
        ("q?", ["q?/a.csv"]),
        ("a?x", ["a?x/a.csv"]),
        ("a#x", ["a#x/a.csv"]),
        ("50%;20%41/", ["50%;20%41/a.csv"]),
        ("a\tb\nc", ["a\tb\nc/a.csv"]),
        (" b ", [" b /a.csv"]),
        ("a:/b", ["a:/b/a.csv"]),
    ],
)
@pytest.mark.parametrize("scheme", ["", "file://", "file://localhost"])
def test_a_path_keeps_each_character(make, tmp_path, scheme, path, names):
    """As a URL, a path would lose a `?` or `#` at its end, and its line breaks."""
    make("2026-1/a.csv", "in/a.csv", "q/a.csv", "abc/a.csv", "50%;20A/a.csv", "b/a.csv")
    make(*names)
    assert found(f"{scheme}{tmp_path}/{path}", tmp_path) == names


@pytest.mark.no_cover
@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("d/202?", ["d/2025/c.csv", "d/2026/c.csv"]),
        ("d/202", ["d/202/c.csv"]),
        ("in#", ["in#/c.csv"]),
        ("a?x#", ["a?x#/c.csv"]),
    ],
)
def test_a_path_in_a_store_keeps_each_character(store, path, names):
    put(store, "d/202/c.csv", "ab/c.csv", "a?x/c.csv", *names)
    assert keys(store, path) == names


@pytest.mark.no_cover
@pytest.mark.parametrize(
    ("key", "paths", "folder"),
    [
        ("x//b.csv", ("x", "x/", "", "**/*.csv", "*/*/*.csv", "x/*", "x/**", "*", "**"), "/x"),
        ("x///b.csv", ("x", "**/*.csv"), "/x"),
        ("x/y//b.csv", ("x", "x/*", "**/*.csv"), "/x/y"),
        ("/b.csv", ("", "*/*.csv", "**/*.csv"), ""),
        ("plan=gold//b.csv", ("plan=gold", "*"), "/plan=*"),
    ],
)
def test_a_folder_without_a_name_is_not_left_out(store, key, paths, folder):
    put(store, key, "x/a.csv", "a.csv")
    name = f"{store.bucket}{folder}"
    for path in paths:
        with pytest.raises(InvalidPatientsError, match="has a folder without a name") as caught:
            keys(store, path)
        assert str(caught.value).startswith(f"{name} has")
    assert keys(store, key) == [key]
    assert keys(store, "x/a*") == ["x/a.csv"]


@pytest.mark.no_cover
@pytest.mark.parametrize("path", ["x//", "x//*.csv", "/*.csv", "//", "x//none.csv", "x///", "y//x"])
def test_nor_is_one_in_a_path(store, path):
    put(store, "x/a.csv", "x//b.csv", "y//x/c.csv")
    with pytest.raises(InvalidPatientsError, match="has a folder without a name") as caught:
        keys(store, path)
    assert str(caught.value).startswith(f"s3://clinic_files@{store.bucket}/{path} has")


def test_two_slashes_in_a_path_on_this_machine_are_one(make, tmp_path):
    make("in/a.csv")
    for path in ("in//", "in//a.csv", "/in/*.csv", "*//a*"):
        assert found(f"{tmp_path}/{path}", tmp_path) == ["in/a.csv"]


@pytest.mark.parametrize("pattern", ["*/a.csv", "**/a.csv"])
def test_a_folder_that_may_not_be_read_is_not_left_out_of_a_glob(make, tmp_path, request, pattern):
    make("a/a.csv", "b/c/a.csv")
    (tmp_path / "b").chmod(0)
    request.getfixturevalue("nobody")
    with pytest.raises(SourceError, match=rf"Cannot list {tmp_path}/b: PermissionError"):
        find_files(f"{tmp_path}/{pattern}")


def test_a_glob_does_not_look_into_hidden_folders(make, tmp_path, request):
    make("a/a.csv", ".snapshot/c/a.csv", "_temporary/0/a.csv")
    (tmp_path / ".snapshot").chmod(0)
    with pytest.raises(SourceError, match=r"_temporary/0/a\.csv seems to be an upload in progress"):
        found(f"{tmp_path}/**/*.csv", tmp_path)
    (tmp_path / "_temporary").rename(tmp_path / "_logs")
    request.getfixturevalue("nobody")
    for pattern in ("**/*.csv", "*/a.csv"):
        assert found(f"{tmp_path}/{pattern}", tmp_path) == ["a/a.csv"]


@pytest.mark.parametrize("pattern", ["**.csv", "a**/b.csv"])
def test_two_stars_inside_a_name_are_refused(make, tmp_path, pattern):
    make("a.csv", "a/b.csv")
    with pytest.raises(InvalidPatientsError, match=r"`path`: write `\*\*` between slashes"):
        find_files(f"{tmp_path}/{pattern}")


@pytest.mark.no_cover
@pytest.mark.parametrize(
    "path", ["k", "", "k/*.csv", "k/small.csv", "k/small.csv/", "**/*.csv", "k/s*", "**", "*/*"]
)
def test_a_file_with_the_name_of_a_folder_is_an_error(store, path):
    put(store, "k/small.csv", "k/small.csv/_SUCCESS", "k/z.json")
    with pytest.raises(InvalidPatientsError) as caught:
        keys(store, path)
    key = f"{store.bucket}/k/small.csv"
    assert str(caught.value).startswith(f"{key} is a file, and {key}/ is a folder.\n")
    assert str(caught.value).endswith(f": {key}/*")


@pytest.mark.no_cover
def test_but_not_where_it_is_not_asked_for(store):
    put(store, "k/small.csv", "k/small.csv/a.csv", "k/z.json")
    assert keys(store, "k/*.json") == ["k/z.json"]
    assert keys(store, "k/small.csv/a.csv") == keys(store, "k/small.csv/*") == ["k/small.csv/a.csv"]


@pytest.mark.parametrize("path", ["", "*", "plan=gold"])
def test_the_error_does_not_show_the_value_in_the_name_of_a_folder(store, path):
    put(store, "plan=gold", "plan=gold/a.csv")
    with pytest.raises(InvalidPatientsError, match=r"plan=\* is a file") as caught:
        keys(store, path)
    assert "gold" not in str(caught.value)


@pytest.mark.no_cover
@pytest.mark.parametrize("path", ["m", "m/", "m/*", "m/**", "m/**/*", "m/mem*", "m/members", "*"])
def test_an_empty_file_with_the_name_of_a_folder_stands_for_it(store, path):
    put(store, "m/members", content=b"")
    put(store, "m/members/a.csv", "m/members/b.csv")
    files = [name for name in keys(store, path) if name.startswith("m/")]
    assert files == ["m/members/a.csv", "m/members/b.csv"]
