"""Conversions on a device, here torch's CPU device: the same archive, a report of who coded what."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest

pytest.importorskip("torch")

import dlpr
from dlpr.errors import DeviceWarning
from dlpr_wsi.cli import main
from dlpr_wsi.pipeline import gpu
from dlpr_wsi.pipeline.convert import convert
from dlpr_wsi.pipeline.execute import DaskExecutor, LocalExecutor
from dlpr_wsi.pipeline.verify import verify
from dlpr_wsi.progress import NoProgress


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    """Pixels that come from no JPEG: tissue, and a chunk of one colour."""
    from PIL import Image

    rng = np.random.default_rng(0)
    y, x = np.mgrid[:200, :256][..., None]
    a = np.array([190, 120, 170]) + 30 * np.sin(x / 9 + y / 13) + rng.normal(0, 4, (200, 256, 3))
    a[:64, 192:] = 245
    path = tmp_path_factory.mktemp("gpu") / "picture.png"
    Image.fromarray(np.clip(a, 0, 255).astype(np.uint8)).save(path)
    return path


@pytest.fixture(scope="module")
def plain(picture):
    out = picture.with_name("plain.zarr")
    report = convert(picture, out, tile=64, executor=LocalExecutor(1))
    assert not report.coders
    return content(out)


def content(archive):
    return {str(p.relative_to(archive)): p.read_bytes() for p in archive.rglob("*") if p.is_file()}


def test_the_same_archive_from_a_device(tmp_path, picture, plain, capsys):
    out = tmp_path / "a.zarr"
    assert main(["convert", str(picture), str(out), "--tile", "64", "--device", "cpu", "--threads", "1"]) == 0
    assert content(out) == plain
    printed = capsys.readouterr().out
    assert "coded by" in printed
    assert " gpu (" in printed
    assert "cpu of a gpu worker" in printed
    assert verify(out, picture, gpu="cpu", threads=1).ok


def test_a_device_does_not_judge_itself_alone(monkeypatch):
    rng = np.random.default_rng(1)
    images = [np.ascontiguousarray(rng.integers(90, 110, (3, 12, 12)), np.uint8) for _ in range(10)]
    streams, device = dlpr.encode_batch(images), dlpr.Device("cpu")
    for got, want in zip(gpu.decode_on_device(streams, device, 1, images), images, strict=True):
        np.testing.assert_array_equal(got, want)
    assert device.done == {"proven": 8}  # the first and the ninth natively


def test_memory_that_runs_out_is_in_the_report(tmp_path, picture, plain, monkeypatch):
    monkeypatch.setattr(gpu, "require_device", lambda name: dlpr.Device("cpu", memory=1))
    with pytest.warns(DeviceWarning):
        report = convert(picture, tmp_path / "a.zarr", tile=64, executor=LocalExecutor(1), gpu="cpu")
    assert content(tmp_path / "a.zarr") == plain
    assert set(report.coders) == {"cpu of a gpu worker", "gpu out of memory"}


def test_a_cluster_of_both_kinds_of_workers_one_of_them_killed(tmp_path, picture, plain):
    distributed = pytest.importorskip("distributed")

    def worker(**resources):
        options = {"nthreads": 1, "resources": resources, "memory_limit": 0, "silence_logs": 50}
        return {"cls": distributed.Nanny, "options": options}

    cluster = distributed.SpecCluster(
        workers={"with": worker(GPU=1), "without": worker(), "doomed": worker()},
        scheduler={"cls": distributed.Scheduler, "options": {"dashboard_address": ":0", "host": "127.0.0.1"}},
        silence_logs=50,
    )
    executor = DaskExecutor(cluster.scheduler_address, threads=1, gpu=True)

    class Killer(NoProgress):
        killed = False

        def advance(self, tiles):
            if not self.killed:
                (pid,) = executor.client.run(os.getpid, workers=[address("doomed")]).values()
                os.kill(pid, signal.SIGKILL)
                self.killed = True

    def address(name):
        workers = executor.client.scheduler_info(n_workers=-1)["workers"]
        return next(where for where, facts in workers.items() if facts["name"] == name)

    progress = Killer()
    try:
        report = convert(picture, tmp_path / "a.zarr", tile=64, executor=executor, gpu="cpu", progress=progress)
        assert verify(tmp_path / "a.zarr", executor=executor).ok
    finally:
        executor.close()
        cluster.close()
    assert progress.killed
    assert content(tmp_path / "a.zarr") == plain
    assert {"gpu", "cpu"} <= set(report.coders)
    assert sum(report.coders.values()) == report.tiles


def test_no_worker_with_a_gpu(picture, tmp_path):
    distributed = pytest.importorskip("distributed")
    from dlpr_wsi.errors import UsageError

    with (
        distributed.LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            processes=False,
            protocol="tcp://",
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
        ) as cluster,
        pytest.raises(UsageError, match="no worker of the cluster has the resource GPU"),
    ):
        DaskExecutor(cluster.scheduler_address, gpu=True)
