"""Writes rendered pedestrians in the folder layout of Market-1501.

    out/bounding_box_train/0002_c1s1_000451_03.jpg   person, camera, sequence, frame, box
    out/bounding_box_test/  out/query/  out/market_attribute.mat  out/manifest.json

Each image depends on (seed, person, image) alone, so the bytes are the same for any number of
workers.
"""

import contextlib
import hashlib
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, TextIO

import cv2
import numpy as np

import input_pipeline
from input_pipeline.attributes import MARKET_SCHEMA, market_fields_to_attributes
from input_pipeline.datasets.market1501.folder import FOLDERS, MANIFEST_NAME
from input_pipeline.datasets.market1501.label_file import (
    LABEL_FILE_NAME,
    MarketLabels,
    category_facts,
    read_market_labels,
    write_market_labels,
)
from input_pipeline.errors import DataError
from input_pipeline.rendering import contact_sheet, render
from input_pipeline.rendering.population import category_fields, draw_category, draw_population
from input_pipeline.whole_folder import only_writer, written_whole

# Raised when the same arguments give other pictures, so that old ones are not taken for new.
RENDERER_VERSION = 1
NUM_CAMERAS = 6
SHEET_SUFFIXES = (".jpg", ".jpeg", ".png")
IMAGE_FOLDERS = tuple(FOLDERS.values())

# The published set has 3,368 query images among 16,483 of the test persons.
_QUERY_SHARE = 0.2
# Bystanders (person 0000) and failed detections (person -1), which a gallery leaves out.
_DISTRACTOR_SHARE = 0.015
# Distractors are rendered as persons of ids that no file name can hold.
_FIRST_DISTRACTOR_ID = 100_000
_PROGRESS_SECONDS = 5.0
_LARGEST_SEED = 2**31 - 1


@dataclass(frozen=True)
class ImageFile:
    """One image to render: where to, and which picture of the person it is."""

    path: str
    image_index: int
    camera_id: int


@dataclass(frozen=True)
class PersonFiles:
    """All images of one person; one worker renders them together.

    is_fragment: keep only a part of the picture, as a failed detection does.
    """

    person_id: int
    fields: Mapping[str, int]
    images: Sequence[ImageFile]
    is_fragment: bool = False


def write_market_layout(
    out: Path,
    *,
    train_persons: int = 480,
    test_persons: int = 240,
    images_per_person: int = 8,
    image_height: int = 256,
    seed: int = 0,
    workers: int = 2,
    attributes: Path | None = None,
    progress: TextIO | None = None,
) -> bool:
    """Renders the whole data set into out; False if it is already there with these parameters.

    attributes: a label file to take the persons from, instead of train_persons and test_persons
    drawn ones. progress: where lines with rate and remaining time go.
    DataError: bad parameters, out holds something else, the disk is full. Whatever the error or
    signal, out is complete or absent; a `<out>.partial` that SIGKILL leaves is replaced next time.
    """
    out = Path(out)
    _check_numbers(images_per_person, image_height, seed, workers)
    labels = population(
        train_persons=train_persons, test_persons=test_persons, seed=seed, attributes=attributes
    )
    parameters = {
        "renderer": RENDERER_VERSION,
        "seed": seed,
        "image_height": image_height,
        "images_per_person": images_per_person,
        "attributes": "drawn" if attributes is None else f"sha256 {_sha256(attributes)}",
        "train_persons": len(labels.train),
        "test_persons": len(labels.test),
    }
    with only_writer(out) as lock:
        if out.exists():
            _require_same(out, parameters)
            _say(progress, f"{out} is already rendered, nothing to do")
            return False
        plan = plan_images(labels, images_per_person=images_per_person, seed=seed)
        with written_whole(out) as partial:
            for folder in IMAGE_FOLDERS:
                (partial / folder).mkdir()
            settings = {"seed": seed, "image_height": image_height}
            _render_all(plan, partial, settings, workers=workers, lock=lock, progress=progress)
            write_market_labels(partial / LABEL_FILE_NAME, labels)
            _write_manifest(partial, parameters, category_facts(labels) | _image_facts(plan))
    return True


def population(
    *, train_persons: int, test_persons: int, seed: int, attributes: Path | None
) -> MarketLabels:
    """The persons to render: those of a label file if one is given, else drawn ones."""
    if not 0 <= seed <= _LARGEST_SEED:
        raise DataError(f"seed is {seed}: expected 0 to {_LARGEST_SEED}")
    if attributes is not None:
        return read_market_labels(attributes)
    return draw_population(seed=seed, train_persons=train_persons, test_persons=test_persons)


def write_population_sheet(
    file: Path, labels: MarketLabels, *, count: int = 48, image_height: int = 256, seed: int = 0
) -> None:
    """A picture of crops of different persons, half of them of the test set, with descriptions."""
    if file.suffix.lower() not in SHEET_SUFFIXES:
        raise DataError(f"the contact sheet {file} must end in one of {', '.join(SHEET_SUFFIXES)}")
    if file.is_dir():
        raise DataError(f"the contact sheet {file} is a folder: choose a file name")
    rng = np.random.default_rng(seed)
    persons: list[tuple[int, dict[str, int]]] = []
    for half in (labels.train, labels.test):
        entries = list(half.items())
        persons += [entries[i] for i in rng.permutation(len(entries))[: count // 2]]
    crops, titles = [], []
    for index, (person_id, fields) in enumerate(persons):
        crops.append(
            render.render_crop(
                fields,
                seed=seed,
                person_id=person_id,
                image_index=index % 8,
                camera_id=1 + index % NUM_CAMERAS,
                image_height=image_height,
            )
        )
        attributes = market_fields_to_attributes(fields)
        titles.append(MARKET_SCHEMA.describe(attributes, mention_absent=False))
    try:
        contact_sheet.write_contact_sheet(file, crops, titles)
    except OSError as error:
        file.unlink(missing_ok=True)
        raise DataError(
            f"the contact sheet {file} cannot be written ({error}): choose another file"
        ) from error


def plan_images(labels: MarketLabels, *, images_per_person: int, seed: int) -> list[PersonFiles]:
    """Every image file of the data set, by person, distractors last."""
    plan = [
        _person_files(person_id, fields, "bounding_box_train", images_per_person, 0, seed)
        for person_id, fields in labels.train.items()
    ]
    num_query = max(1, round(_QUERY_SHARE * images_per_person))
    plan += [
        _person_files(person_id, fields, "bounding_box_test", images_per_person, num_query, seed)
        for person_id, fields in labels.test.items()
    ]
    rng = np.random.default_rng([seed, _FIRST_DISTRACTOR_ID])
    num_distractors = max(1, round(_DISTRACTOR_SHARE * len(labels.test) * images_per_person))
    for index in range(2 * num_distractors):
        is_fragment = index % 2 == 1
        name = "-1" if is_fragment else "0000"
        camera = int(rng.integers(1, NUM_CAMERAS + 1))
        path = f"bounding_box_test/{name}_c{camera}s1_{index + 1:06d}_00.jpg"
        plan.append(
            PersonFiles(
                person_id=_FIRST_DISTRACTOR_ID + index,
                fields=category_fields(draw_category(rng)),
                images=[ImageFile(path, 0, camera)],
                is_fragment=is_fragment,
            )
        )
    return plan


def _person_files(
    person_id: int, fields: Mapping[str, int], folder: str, count: int, num_query: int, seed: int
) -> PersonFiles:
    """count images over the cameras in turn; the first num_query of them are queries."""
    rng = np.random.default_rng([seed, person_id])
    cameras = 1 + (rng.integers(NUM_CAMERAS) + np.arange(count)) % NUM_CAMERAS
    frames = np.cumsum(rng.integers(1, 2000, size=count))
    sequence = int(rng.integers(1, 7))
    images = []
    for index, (camera, frame) in enumerate(zip(cameras.tolist(), frames.tolist(), strict=True)):
        is_query = index < num_query
        # As in the published set, box 00 marks the hand-drawn boxes of the queries.
        box = 0 if is_query else 1 + index % 5
        name = f"{person_id:04d}_c{camera}s{sequence}_{frame:06d}_{box:02d}.jpg"
        images.append(ImageFile(f"{'query' if is_query else folder}/{name}", index, camera))
    return PersonFiles(person_id, fields, images)


def _render_all(
    plan: Sequence[PersonFiles],
    folder: Path,
    settings: Mapping[str, int],
    *,
    workers: int,
    lock: int,
    progress: TextIO | None,
) -> None:
    """Renders the plan into folder, in this process or in several."""
    total = sum(len(person.images) for person in plan)
    started = reported = time.monotonic()
    done = 0
    if workers == 1:
        finished = (render_person(person, folder, **settings) for person in plan)
    else:
        finished = _render_in_processes(plan, folder, settings, workers=workers, lock=lock)
    # Closed here, so that no worker still writes when the caller removes the folder.
    with contextlib.closing(finished):
        for count in finished:
            done += count
            now = time.monotonic()
            if now - reported >= _PROGRESS_SECONDS or done == total:
                reported = now
                rate = done / max(now - started, 1e-9)
                _say(
                    progress,
                    f"rendered {done}/{total} images, {rate:.0f} images/s, "
                    f"{(total - done) / rate:.0f} s to go",
                )


def render_person(person: PersonFiles, folder: Path, *, seed: int, image_height: int) -> int:
    """Writes all images of one person below folder and returns how many."""
    for image in person.images:
        draw = render.render_crop if person.is_fragment else render.render_jpeg
        result = draw(
            person.fields,
            seed=seed,
            person_id=person.person_id,
            image_index=image.image_index,
            camera_id=image.camera_id,
            image_height=image_height,
        )
        encoded = result if isinstance(result, bytes) else _fragment_jpeg(result)
        (folder / image.path).write_bytes(encoded)
    return len(person.images)


def _fragment_jpeg(crop: np.ndarray) -> bytes:
    """The lower left quarter of a crop (H, W, 3), enlarged: a box that missed the person."""
    height, width = crop.shape[:2]
    part = cv2.resize(crop[height // 2 :, : width // 2], (width, height))
    ok, encoded = cv2.imencode(".jpg", part[:, :, ::-1])
    if not ok:
        raise RuntimeError("OpenCV did not encode a JPEG")
    return encoded.tobytes()


def _render_in_processes(
    plan: Sequence[PersonFiles],
    folder: Path,
    settings: Mapping[str, int],
    *,
    workers: int,
    lock: int,
) -> Generator[int]:
    """Yields the number of images of each person as one of the workers finishes it.

    Plain child processes rather than multiprocessing, which would import the caller's main module
    (train.py with JAX and TensorFlow) in every one. A worker whose parent is gone ends at the next
    line it writes; until then it has the lock, so that no other run writes to the same folder.
    """
    processes: list[subprocess.Popen[str]] = []
    try:
        for _ in range(workers):
            process = subprocess.Popen(
                [sys.executable, "-m", "input_pipeline.rendering.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=Path(input_pipeline.__file__).parent.parent,
                start_new_session=True,
                pass_fds=(lock,),
            )
            processes.append(process)
        for index, process in enumerate(processes):
            share = [asdict(person) for person in plan[index::workers]]
            job = {"folder": str(folder.resolve()), "settings": dict(settings), "persons": share}
            # A worker that died already is reported where its lines are read.
            with contextlib.suppress(BrokenPipeError):
                _stream(process.stdin).write(json.dumps(job))
                _stream(process.stdin).close()
        # Whole persons are dealt round-robin and cost the same, so reading one line of each worker
        # in turn keeps up with all of them.
        for index in range(len(plan)):
            yield _read_count(processes[index % workers])
    finally:
        for process in processes:
            process.kill()
            process.wait()
            _stream(process.stdout).close()


def _read_count(process: subprocess.Popen[str]) -> int:
    """One line of a worker. OSError: the worker could not write."""
    line = _stream(process.stdout).readline()
    if not line:
        raise RuntimeError(f"a rendering worker ended early, exit code {process.wait()}")
    report: dict[str, Any] = json.loads(line)
    if "errno" in report:
        raise OSError(report["errno"], report["message"])
    return report["images"]


def _stream(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None, "opened as a pipe"
    return pipe


def _check_numbers(images_per_person: int, image_height: int, seed: int, workers: int) -> None:
    for name, value, low, high in (
        ("images_per_person", images_per_person, 2, 1000),
        ("image_height", image_height, 32, 1024),
        ("seed", seed, 0, _LARGEST_SEED),
        ("workers", workers, 1, 256),
    ):
        if not low <= value <= high:
            raise DataError(f"{name} is {value}: expected {low} to {high}")
    if image_height % 2:
        raise DataError(f"image_height is {image_height}: expected an even number")


def _image_facts(plan: Sequence[PersonFiles]) -> dict[str, int]:
    """Images per split, in the words of the reader; distractors are in no split."""
    folders = Counter(
        "distractors" if person.person_id >= _FIRST_DISTRACTOR_ID else image.path.split("/")[0]
        for person in plan
        for image in person.images
    )
    return {
        "train_images": folders["bounding_box_train"],
        "query_images": folders["query"],
        "gallery_images": folders["bounding_box_test"],
        "distractor_images": folders["distractors"],
    }


def _write_manifest(partial: Path, parameters: Mapping[str, Any], facts: Mapping[str, int]) -> None:
    """Counts what lies on the disk, then writes manifest.json."""
    written = sum(1 for folder in IMAGE_FOLDERS for _ in (partial / folder).iterdir())
    planned = sum(count for name, count in facts.items() if name.endswith("_images"))
    if written != planned:
        raise RuntimeError(f"rendered {planned} images but {written} lie in {partial}")
    manifest = {"name": "rendered_market", "parameters": parameters, "facts": facts}
    (partial / MANIFEST_NAME).write_text(json.dumps(manifest, indent=2) + "\n")


def _require_same(out: Path, parameters: Mapping[str, Any]) -> None:
    """DataError unless out was rendered with these parameters."""
    advice = "choose another folder"
    file = out / MANIFEST_NAME
    if not file.is_file():
        raise DataError(f"{out} exists and is not a rendered folder (no {MANIFEST_NAME}): {advice}")
    try:
        found = dict(json.loads(file.read_text())["parameters"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file} is damaged ({error!r}): {advice}") from error
    for name, value in parameters.items():
        if found.get(name) != value:
            raise DataError(
                f"{out} was rendered with {name}={found.get(name)}, not {value}: {advice}"
            )


def _sha256(file: Path) -> str:
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()


def _say(stream: TextIO | None, line: str) -> None:
    if stream is not None:
        print(line, file=stream, flush=True)
