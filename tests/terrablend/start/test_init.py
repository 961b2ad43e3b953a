import numpy as np

from terrablend.start.init import guess_experiment


def test_rasters_with_a_header_beside_are_images_and_other_files_of_that_suffix_are_not(tmp_path, write_raster):
    rng = np.random.default_rng(0)
    for name in "abc":
        write_raster(f"img/{name}.dat", rng.integers(0, 999, (4, 16, 16), np.uint16))
        write_raster(f"mask/{name}.tif", rng.integers(0, 2, (16, 16)).astype(np.uint8))
    (tmp_path / "img/notes.bil").write_text("no raster")
    train = guess_experiment(tmp_path)["scenes"]["train"]
    assert train["image"][0]["path"] == "img/{id}.dat"
    assert train["label"]["path"] == "mask/{id}.tif"
