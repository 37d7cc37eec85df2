"""The rendered folder: whole or absent, same bytes for any number of workers, Market's layout."""

import dataclasses
import errno
import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from input_pipeline.datasets.market1501.folder import (
    MARKET_LABEL_FILE,
    read_market_folder,
    read_market_labels,
)
from input_pipeline.datasets.person_folders import FOLDERS
from input_pipeline.datasets.person_labels import category_facts
from input_pipeline.errors import DataError
from input_pipeline.rendering import __main__ as command
from input_pipeline.rendering import layout, render
from input_pipeline.rendering.layout import write_layout
from input_pipeline.rendering.layouts.market import MARKET_LAYOUT, plan_images
from input_pipeline.rendering.plan import PersonFiles, PlannedImage
from input_pipeline.rendering.population import draw_population
from input_pipeline.whole_folder import LOCK_NAME

ROOT = Path(__file__).resolve().parents[1]
REAL = ROOT.parent / "shared" / "labels" / "market_attribute.mat"
needs_real = pytest.mark.skipif(not REAL.exists(), reason=f"the published {REAL} is not here")

SMALL: dict[str, Any] = {
    "train_persons": 4,
    "test_persons": 4,
    "images_per_person": 3,
    "image_height": 64,
}
NAME = re.compile(r"(-1|\d{4})_c[1-6]s[1-6]_\d{6}_\d{2}\.jpg")


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


@pytest.fixture(scope="module")
def rendered(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("layout") / "data"
    assert write_layout(out, **SMALL, workers=1)
    return out


def left_in(folder: Path) -> list[str]:
    """Names in a folder but for the lock's."""
    return sorted(entry.name for entry in folder.iterdir() if entry.name != LOCK_NAME)


def replace_plan(monkeypatch, plan) -> None:
    """Another plan in place of Market's."""
    changed = dataclasses.replace(MARKET_LAYOUT, plan=plan)
    monkeypatch.setitem(layout.LAYOUTS, "market1501", changed)


@pytest.fixture
def cheap_renderer(monkeypatch):
    """Grey crops in no time, for the tests that are not about pictures."""
    crop = np.full((32, 16, 3), 128, np.uint8)
    encoded = cv2.imencode(".jpg", crop)[1].tobytes()
    monkeypatch.setattr(render, "render_jpeg", lambda fields, **kwargs: encoded)
    monkeypatch.setattr(render, "render_crop", lambda fields, **kwargs: crop)


@pytest.mark.parametrize("workers", [2, 4])
def test_same_bytes_for_any_number_of_workers(rendered, tmp_path, workers):
    write_layout(tmp_path / "data", **SMALL, workers=workers)
    assert contents(tmp_path / "data") == contents(rendered)


def test_another_seed_gives_other_images_and_persons(rendered, tmp_path):
    write_layout(tmp_path / "data", **SMALL, workers=1, seed=1)
    assert not set(contents(tmp_path / "data").values()) & set(contents(rendered).values())


def test_layout_is_that_of_market(rendered):
    assert sorted(entry.name for entry in rendered.iterdir()) == [
        "bounding_box_test", "bounding_box_train", "manifest.json", "market_attribute.mat", "query",
    ]  # fmt: skip
    labels = read_market_labels(rendered / "market_attribute.mat")
    assert labels == draw_population(seed=0, train_persons=4, test_persons=4)
    seen = {folder: Counter() for folder in FOLDERS.values()}
    for folder, counts in seen.items():
        for file in (rendered / folder).iterdir():
            match = NAME.fullmatch(file.name)
            assert match, file.name
            counts[int(match[1])] += 1
            image = cv2.imread(str(file))
            assert image is not None and image.shape == (64, 32, 3)
    assert seen["bounding_box_train"] == dict.fromkeys(labels.train, 3)
    assert seen["query"] == dict.fromkeys(labels.test, 1)
    distractors = {person: seen["bounding_box_test"].pop(person) for person in (0, -1)}
    assert distractors == {0: 1, -1: 1}
    assert seen["bounding_box_test"] == dict.fromkeys(labels.test, 2)


def test_manifest_counts_are_those_that_the_reader_finds(rendered):
    manifest = json.loads((rendered / "manifest.json").read_text())
    assert manifest["parameters"] == SMALL | {
        "seed": 0,
        "attributes": "drawn",
        "renderer": layout.RENDERER_VERSION,
        "layout": "market1501",
    }
    folder = read_market_folder(rendered)
    assert folder.is_rendered
    assert dict(folder.facts) == manifest["facts"] and folder.failed_facts() == []
    assert folder.facts["train_images"] == 12 and folder.facts["gallery_images"] == 8


def test_a_fifth_of_the_test_images_are_queries_of_different_cameras():
    labels = draw_population(seed=0, train_persons=4, test_persons=30)
    plan = plan_images(labels, 8, 0)
    test = [person for person in plan if person.person_id in labels.test]
    for person in test:
        queries = [image for image in person.images if image.path.startswith("query/")]
        assert len(queries) == 2 and queries[0].camera_id != queries[1].camera_id
        assert {image.camera_id for image in person.images} == set(range(1, 7))
    paths = [image.path for person in plan for image in person.images]
    assert len(set(paths)) == len(paths)
    num_distractors = sum("/0000_" in path or "/-1_" in path for path in paths)
    assert 0.01 < num_distractors / (30 * 8) < 0.06


def test_nothing_to_do_the_second_time(rendered, monkeypatch, capsys):
    replace_plan(monkeypatch, None)
    before = contents(rendered)
    assert not write_layout(rendered, **SMALL, workers=1, progress=sys.stderr)
    assert "already rendered" in capsys.readouterr().err
    assert contents(rendered) == before


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seed": 1}, "was rendered with seed=0, not 1"),
        ({"image_height": 128}, "was rendered with image_height=64, not 128"),
        ({"train_persons": 5}, "was rendered with train_persons=4, not 5"),
    ],
)
def test_other_parameters_do_not_overwrite(rendered, changed, message):
    before = contents(rendered)
    with pytest.raises(DataError, match=message):
        write_layout(rendered, **(SMALL | changed))
    assert contents(rendered) == before


def test_foreign_folder_and_file_are_not_touched(tmp_path, cheap_renderer):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("words")
    (tmp_path / "file").write_text("words")
    for name in ("mine", "file"):
        with pytest.raises(DataError, match="is not a rendered folder"):
            write_layout(tmp_path / name, **SMALL, workers=1)
    with pytest.raises(DataError, match="cannot be written"):
        write_layout(tmp_path / "file" / "below", **SMALL, workers=1)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "words"
    (tmp_path / "mine" / "manifest.json").write_text("{}")
    with pytest.raises(DataError, match="is damaged"):
        write_layout(tmp_path / "mine", **SMALL, workers=1)


@pytest.mark.parametrize(
    ("error", "raised", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), DataError, "the disk is full"),
        (OSError(errno.EACCES, "Permission denied"), DataError, "cannot be written.*Permission"),
        (KeyboardInterrupt(), KeyboardInterrupt, None),
    ],
)
def test_nothing_is_left_after_an_error(tmp_path, monkeypatch, error, raised, message):
    calls = []

    def failing(fields, **kwargs):
        calls.append(kwargs)
        if len(calls) == 5:
            raise error
        return b"jpeg"

    monkeypatch.setattr(render, "render_jpeg", failing)
    with pytest.raises(raised, match=message):
        write_layout(tmp_path / "data", **SMALL, workers=1)
    assert len(calls) == 5 and not left_in(tmp_path)


def test_an_error_in_a_worker_process_is_reported(tmp_path, monkeypatch):
    def unwritable(labels, images_per_person, seed):
        [person, *_] = plan_images(labels, images_per_person, seed)
        image = PlannedImage("query/" + 300 * "x" + ".jpg", 0, 1)
        return [PersonFiles(person.person_id, person.fields, [image])] * 2

    replace_plan(monkeypatch, unwritable)
    with pytest.raises(DataError, match=r"cannot be written.*File name too long"):
        write_layout(tmp_path / "data", **SMALL, workers=2)
    assert not left_in(tmp_path)


def test_a_killed_run_leaves_only_a_partial_that_the_next_replaces(tmp_path, cheap_renderer):
    arguments = [
        "--out", str(tmp_path / "data"), "--persons", "200", "200", "--image_height", "64",
        "--workers", "2",
    ]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "input_pipeline.rendering", *arguments], cwd=ROOT
    )
    partial = tmp_path / "data.partial"
    while not list(partial.glob("*/*.jpg")) and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert left_in(tmp_path) == ["data.partial"]
    (partial / "query" / "rest.jpg").write_bytes(b"")
    write_layout(tmp_path / "data", **SMALL, workers=1)
    assert left_in(tmp_path) == ["data"]
    read_market_folder(tmp_path / "data")


def test_two_runs_at_once_render_once(tmp_path, cheap_renderer):
    results = []
    threads = [
        threading.Thread(
            target=lambda: results.append(write_layout(tmp_path / "data", **SMALL, workers=1))
        )
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [False, False, True]


@needs_real
def test_persons_of_the_published_label_file(tmp_path, cheap_renderer):
    out = tmp_path / "data"
    write_layout(out, attributes=REAL, images_per_person=2, image_height=32, workers=1)
    assert read_market_labels(out / "market_attribute.mat") == read_market_labels(REAL)
    facts = read_market_folder(out).facts
    assert facts["train_persons"] == 751 and facts["test_persons"] == 750
    assert facts["train_categories"] == 508 and facts["test_categories"] == 484
    assert facts["unseen_test_categories"] == 315
    assert facts["train_images"] == 1502 and facts["query_images"] == 750
    with pytest.raises(DataError, match="rendered with attributes=sha256"):
        write_layout(out, image_height=32, images_per_person=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to do"),
        (["--image_height", "63"], "image_height is 63: expected an even"),
        (["--image_height", "0"], "image_height is 0: expected 32 to 1024"),
        (["--images_per_person", "1"], "images_per_person is 1: expected 2"),
        (["--workers", "0"], "workers is 0: expected 1"),
        (["--seed", "-1"], "seed is -1: expected 0"),
        (["--persons", "0", "4"], "0 training and 4 test persons"),
        (["--attributes", "none.mat"], "none.mat does not exist"),
        (["--contact_sheet", "sheet.txt"], "sheet.txt must end in one of .jpg"),
        (["--contact_sheet", "missing_folder/sheet.png"], "cannot be written"),
        (["--attributes", "none.mat", "--persons", "4", "4"], "brings its own persons"),
    ],
)
def test_bad_arguments_exit_2_with_one_sentence(
    tmp_path, capsys, cheap_renderer, arguments, message
):
    out = ["--out", str(tmp_path / "data")] if arguments else []
    assert command.main([*out, *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1
    assert not left_in(tmp_path)


def test_contact_sheet_alone(tmp_path):
    file = tmp_path / "sheet.png"
    assert command.main(["--contact_sheet", str(file), "--image_height", "64"]) == 0
    sheet = cv2.imread(str(file))
    assert sheet is not None and sheet.shape[0] > 6 * 64 and sheet.std() > 10
    assert [entry.name for entry in tmp_path.iterdir()] == ["sheet.png"]


def test_contact_sheet_shows_different_persons_with_descriptions(
    tmp_path, monkeypatch, cheap_renderer
):
    written = {}
    monkeypatch.setattr(
        layout.contact_sheet,
        "write_contact_sheet",
        lambda file, crops, titles: written.update(crops=crops, titles=titles),
    )
    labels = draw_population(seed=0, train_persons=480, test_persons=240)
    layout.write_population_sheet(tmp_path / "s.png", labels, image_height=64)
    assert len(written["crops"]) == len(written["titles"]) == 48
    assert len(set(written["titles"])) > 24 and all("male" in title for title in written["titles"])
    assert category_facts(MARKET_LABEL_FILE, labels)["train_persons"] == 480
