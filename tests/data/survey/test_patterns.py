import tarfile
import zipfile
from pathlib import Path

import pytest

from data.errors import CatalogueError, ExperimentError
from data.scenes.paths import files_on_disk, resolve_path
from data.survey.patterns import find_files


@pytest.fixture
def folder(tmp_path):
    for name in ("img/a.tif", "img/b.tif", "img/.c.tif", "img/a.tif.aux.xml", "img/a.tfw", "img/ab.hdr", "y/a.nc"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("img/a.tif", b"")
        archive.writestr("img/deep/b.tif", b"")
    return tmp_path


@pytest.mark.parametrize("pattern", ["img/{id}.tif", "{folder}/img/{id}.tif"])
def test_a_pattern_is_below_the_root_or_absolute(folder, pattern):
    found = find_files(pattern.replace("{folder}", str(folder)), folder)
    assert found == {name: str(folder / f"img/{name}.tif") for name in ("a", "b")}


def test_files_in_an_archive_and_rasters_in_files_are_found(folder):
    assert find_files(f"/vsizip/{folder}/all.zip/img/{{id}}.tif", folder) == {
        "a": f"/vsizip/{folder}/all.zip/img/a.tif"
    }
    assert find_files(f"/vsizip/{folder}/{{id}}.zip/img/a.tif", folder) == {
        "all": f"/vsizip/{folder}/all.zip/img/a.tif"
    }
    assert find_files("NETCDF:y/{id}.nc:ndvi", folder) == {"a": f'NETCDF:"{folder}/y/a.nc":ndvi'}
    assert resolve_path("s3://bucket/a.tif", folder) == "s3://bucket/a.tif"


def test_addresses_cannot_be_listed_and_archives_must_be_there(folder):
    for pattern in ("https://host/{id}.tif", "/vsizip//vsis3/bucket/all.zip/{id}.tif", "s3://{id}/a.tif"):
        with pytest.raises(ExperimentError, match="expected files that can be listed"):
            find_files(pattern, folder)
    with pytest.raises(ExperimentError, match="expected files that can be listed"):
        find_files("{id}.tif", Path("/vsicurl/https:/host/data"))
    with pytest.raises(ExperimentError, match=r"expected a pattern with \{id\}"):
        find_files("img/a.tif", folder)
    with pytest.raises(CatalogueError, match=r"none\.zip: expected a zip or tar archive"):
        find_files(f"/vsizip/{folder}/none.zip/{{id}}.tif", folder)


def test_what_lies_beside_a_file_is_read_with_it(folder):
    image, archive = str(folder / "img/a.tif"), f"/vsizip/{folder}/all.zip/img/a.tif"
    names = [path.name for path in files_on_disk([image, archive, f'NETCDF:"{folder}/y/a.nc":ndvi', "s3://b/a.tif"])]
    assert names == ["all.zip", "a.tfw", "a.tif", "a.tif.aux.xml", "a.nc"]


def test_an_id_may_stand_more_than_once(folder):
    for name in ("s1/s1_b4.tif", "s2/s2_b4.tif", "s3/s2_b4.tif"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"")
    expected = {name: str(folder / f"{name}/{name}_b4.tif") for name in ("s1", "s2")}
    assert find_files("./{id}//{id}_b4.tif", folder) == expected


def test_files_beside_others_are_no_scenes_where_the_pattern_has_no_suffix(folder):
    (folder / "envi").mkdir()
    for name in ("a", "a.hdr", "a.aux.xml", "b", "b.hdr"):
        (folder / "envi" / name).write_bytes(b"")
    assert sorted(find_files("envi/{id}", folder)) == ["a", "b"]


@pytest.mark.parametrize(
    "pattern",
    [
        "/vsizip/all.zip/img/{id}.tif",
        "/vsizip/{all.zip}/img/{id}.tif",
        "zip://all.zip!/img/{id}.tif",
        "all.zip/img/{id}.tif",
    ],
)
def test_every_way_to_name_a_file_in_an_archive_is_read(folder, pattern):
    path = f"/vsizip/{folder}/all.zip/img/a.tif"
    assert find_files(pattern, folder) == {"a": path}
    assert resolve_path(pattern.replace("{id}", "a"), folder) == path


def test_archives_of_one_scene_each_are_listed(folder):
    for name in ("s1", "s2"):
        (folder / f"{name}_b4.tif").write_bytes(b"")
        with tarfile.open(folder / f"{name}.tar", "w") as archive:
            archive.add(folder / f"{name}_b4.tif", f"{name}_b4.tif")
    found = find_files("/vsitar/{id}.tar/{id}_b4.tif", folder)
    assert found == {name: f"/vsitar/{folder}/{name}.tar/{name}_b4.tif" for name in ("s1", "s2")}


def test_a_folder_that_is_one_data_set_is_read_file_by_file(folder):
    (folder / "a.zarr/c").mkdir(parents=True)
    (folder / "a.zarr/.zarray").write_bytes(b"")
    (folder / "a.zarr/c/0").write_bytes(b"")
    assert files_on_disk([str(folder / "a.zarr")]) == [folder / "a.zarr/.zarray", folder / "a.zarr/c/0"]
