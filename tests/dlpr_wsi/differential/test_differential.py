"""Thousands of inputs: an archive of right pixels, or a refusal by name. docs/contributing.md says how to use it."""

import os
import tempfile
from pathlib import Path

import pytest
from diff_common import outcome
from diff_dicom import dicom_cases
from diff_image import image_cases
from diff_ome import ome_cases
from diff_tiff import aperio_cases, tiff_cases
from diff_zarr import zarr_cases
from hypothesis import HealthCheck, Phase, given, settings

FAMILIES = {  # and how many of a hundred cases
    "tiff": (tiff_cases, 28),
    "aperio": (aperio_cases, 14),
    "ome-tiff": (ome_cases, 22),
    "ome-zarr": (zarr_cases, 14),
    "dicom": (dicom_cases, 8),
    "image": (image_cases, 14),
}
CASES = int(os.environ.get("DLPR_CASES", "5000"))


def run(family, count, counts, **how):
    cases, share = FAMILIES[family]

    @settings(
        max_examples=max(1, count * share // 100),
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        **how,
    )
    @given(cases())
    def check(case):
        with tempfile.TemporaryDirectory() as folder:
            try:
                result = outcome(case, Path(folder))
            except BaseException as error:
                error.add_note(f"case: {case!r}")  # pytest shortens what it shows of arguments
                counts[f"{family} wrong"] += 1
                raise
        counts[f"{family} {result}"] += 1

    check()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_hundred_cases(family, counts):
    run(family, 100, counts, derandomize=True, phases=[Phase.generate, Phase.shrink])


@pytest.mark.full
@pytest.mark.parametrize("family", FAMILIES)
def test_thousands_of_cases(family, counts):
    run(family, CASES, counts, print_blob=True)
