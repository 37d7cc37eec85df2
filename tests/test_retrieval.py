import socket
import subprocess
import sys
import warnings
from pathlib import Path

import jax
import numpy as np
import pytest

from jsreid_jax import retrieval
from jsreid_jax.errors import ModelError
from jsreid_jax.retrieval import EmbeddingFile, Pairs, Ranks

NAMES = ("rank1", "rank5", "rank10", "rank20", "AP_step", "AP_trapezoid", "INP")


def walk_down(scores, relevant, ignored):
    """The same numbers another way: down one query's list, sorted by (-score, index)."""
    ranking = sorted(range(len(scores)), key=lambda index: (-float(scores[index]), index))
    ranking = [index for index in ranking if not ignored[index]]
    found, first, last = 0, None, None
    step = trapezoid = 0.0
    recall, precision = 0.0, 1.0  # as the Oxford buildings' compute_ap
    total = sum(bool(relevant[index]) for index in ranking)
    for position, index in enumerate(ranking, 1):
        if relevant[index]:
            found += 1
            step += found / position
            first, last = first or position, position
        new_recall, new_precision = found / max(total, 1), found / position
        trapezoid += (new_recall - recall) * (precision + new_precision) / 2
        recall, precision = new_recall, new_precision
    if first is None or last is None:
        return dict.fromkeys(NAMES, np.nan), ranking
    row = {f"rank{k}": float(first <= k) for k in (1, 5, 10, 20)}
    row |= {"AP_step": step / found, "AP_trapezoid": trapezoid, "INP": found / last}
    return row, ranking


def assert_equals_brute_force(ranks, scores, relevant, ignored):
    """Metrics to 1e-6; returns the ranked lists."""
    rows, rankings = zip(*map(walk_down, scores, relevant, ignored), strict=True)
    metrics = retrieval.query_metrics(ranks)
    assert tuple(metrics) == NAMES
    for name in NAMES:
        np.testing.assert_allclose(metrics[name], [row[name] for row in rows], atol=1e-6)
    return rankings


def random_masks(rng, queries, gallery):
    """Relevant and ignored images, with every special case of a query."""
    relevant = rng.random((queries, gallery)) < rng.choice([0.02, 0.1, 0.6])
    ignored = rng.random((queries, gallery)) < rng.choice([0.0, 0.1, 0.5])
    relevant[0] = False  # nothing to find
    relevant[1], ignored[1] = ignored[1].copy(), relevant[1] & ignored[1]
    ignored[2] = True  # nothing left
    relevant[3] = True
    return relevant, ignored


@pytest.mark.parametrize("seed", range(200))
def test_ranks_from_scores_equal_brute_force(seed):
    rng = np.random.default_rng(seed)
    queries, gallery = rng.integers(4, 12), rng.integers(1, 80)
    if seed % 10 == 0:
        gallery = retrieval.FEW_POSITIVES * 2  # some queries count the other way
    scores = rng.normal(size=(queries, gallery)).astype(rng.choice([np.float32, np.float64]))
    if seed % 2:
        scores = np.round(scores)  # many ties, also of 0.0 and -0.0
    if seed % 5 == 0:
        scores[rng.random(scores.shape) < 0.1] = np.inf
        scores[rng.random(scores.shape) < 0.1] = -np.inf
    relevant, ignored = random_masks(rng, queries, gallery)
    ranks = retrieval.ranks_from_scores(
        scores, Pairs.from_dense(relevant), Pairs.from_dense(ignored)
    )
    assert_equals_brute_force(ranks, scores, relevant, ignored)


def random_embeddings(rng, gallery, *, whole):
    """12 queries and a gallery; whole numbers make products exact and ties plentiful."""
    shapes = (12, 8), (gallery, 8)
    if whole:
        return [rng.integers(-2, 3, shape).astype(np.float32) for shape in shapes]
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


@pytest.mark.parametrize("seed", range(200))
def test_streamed_ranks_equal_brute_force(seed):
    rng = np.random.default_rng(seed)
    gallery_size = rng.integers(1, 300) if seed % 20 else 2 * retrieval.FEW_POSITIVES
    queries, gallery = random_embeddings(rng, gallery_size, whole=seed % 4 > 0)
    relevant, ignored = random_masks(rng, len(queries), gallery_size)
    scores = queries.astype(np.float64) @ gallery.T.astype(np.float64)
    streamed = [
        retrieval.stream_ranks(
            queries,
            gallery,
            Pairs.from_dense(relevant),
            Pairs.from_dense(ignored),
            block_size=block_size,
            top_k=5,
            devices=devices,
            count_on_devices=count_on_devices,
        )
        for devices, block_size, count_on_devices in (
            (jax.devices()[:1], 128, False),
            (jax.devices(), 1024, False),
            (jax.devices(), 1024, True),
        )
    ]
    rankings = assert_equals_brute_force(streamed[0].ranks, scores, relevant, ignored)
    for other in streamed:
        np.testing.assert_array_equal(other.ranks.ranks, streamed[0].ranks.ranks)
        np.testing.assert_array_equal(other.best_scores, streamed[0].best_scores)
        for query, ranking in enumerate(rankings):
            best = other.best[query]
            expected = ranking[:5]
            assert best.tolist() == expected + [-1] * (5 - len(expected))
            found = best[best >= 0]
            np.testing.assert_allclose(
                other.best_scores[query, : len(found)], scores[query, found], atol=1e-5
            )
            assert np.all(other.best_scores[query, len(found) :] == -np.inf)


def test_a_hand_checked_ranking():
    scores = np.array([[0.9, 0.8, 0.7, 0.6]])
    relevant = np.array([[False, True, False, True]])
    ranks = retrieval.ranks_from_scores(scores, Pairs.from_dense(relevant))
    assert ranks.ranks.tolist() == [2, 4]
    metrics = retrieval.query_metrics(ranks)
    assert metrics["rank1"] == 0.0
    assert metrics["rank5"] == 1.0
    assert metrics["AP_step"] == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert metrics["AP_trapezoid"] == pytest.approx(((0 + 1 / 2) / 2 + (1 / 3 + 2 / 4) / 2) / 2)
    assert metrics["INP"] == pytest.approx(2 / 4)
    first = retrieval.query_metrics(Ranks(np.array([0, 2]), np.array([1, 3])))
    assert first["AP_trapezoid"] == pytest.approx((1 + (1 / 2 + 2 / 3) / 2) / 2)


def test_ties_go_to_the_smaller_gallery_index():
    for scores in (np.array([[1.0, 1.0]]), np.array([[0.0, -0.0]]), np.array([[-0.0, 0.0]])):
        for column, rank in ((0, 1), (1, 2)):
            pairs = Pairs(np.array([0, 1]), np.array([column]))
            assert retrieval.ranks_from_scores(scores, pairs).ranks.tolist() == [rank]


def test_ignored_images_leave_no_gap():
    """Neither right nor wrong; and a positive that is ignored is no positive."""
    scores = np.array([[0.9, 0.8, 0.7, 0.6]])
    positives = Pairs(np.array([0, 2]), np.array([1, 3]))
    ranks = retrieval.ranks_from_scores(scores, positives, Pairs(np.array([0, 1]), np.array([0])))
    assert ranks.ranks.tolist() == [1, 3]
    ranks = retrieval.ranks_from_scores(
        scores, positives, Pairs(np.array([0, 2]), np.array([1, 2]))
    )
    assert ranks.ranks.tolist() == [2]
    assert ranks.starts.tolist() == [0, 1]


def test_equal_images_are_equal_in_any_block_and_on_any_device():
    """Real-valued rows that occur thrice tie exactly, wherever they stand."""
    rng = np.random.default_rng(0)
    queries = rng.normal(size=(5, 37)).astype(np.float32)
    rows = rng.normal(size=(1000, 37)).astype(np.float32)
    gallery = rows[np.concatenate([rng.permutation(1000) for _ in range(3)])]
    positives = Pairs.from_dense(rng.random((5, 3000)) < 0.02)
    ranks = [
        retrieval.stream_ranks(
            queries, gallery, positives, block_size=block_size, devices=devices
        ).ranks.ranks
        for devices in (jax.devices()[:1], jax.devices()[:3], jax.devices())
        for block_size in (128, 1000, None)
    ]
    for other in ranks:
        np.testing.assert_array_equal(other, ranks[0])
    scores = queries.astype(np.float64) @ gallery.T.astype(np.float64)
    np.testing.assert_array_equal(ranks[0], retrieval.ranks_from_scores(scores, positives).ranks)


@pytest.mark.parametrize("count_on_devices", [False, True])
def test_padding_is_never_ahead(count_on_devices):
    """All scores are negative: rows of zeros would come first."""
    gallery = -np.ones((130, 4), np.float32)
    streamed = retrieval.stream_ranks(
        np.ones((1, 4), np.float32),
        gallery,
        Pairs(np.array([0, 2]), np.array([0, 129])),
        block_size=128,
        top_k=200,
        devices=jax.devices()[:1],
        count_on_devices=count_on_devices,
    )
    assert streamed.ranks.ranks.tolist() == [1, 130]
    assert streamed.best.tolist() == [[*range(130), *[-1] * 70]]


@pytest.mark.parametrize("count_on_devices", [False, True])
def test_scores_that_differ_between_the_passes_are_noticed(monkeypatch, count_on_devices):
    """Another product in pass 1, right to 1e-6, would put images ahead of themselves."""
    rng = np.random.default_rng(0)
    queries, gallery = random_embeddings(rng, 200, whole=False)

    def otherwise(blocks, query, row):
        list(blocks)
        return (queries.astype(np.float64) @ gallery.T).astype(np.float32)[query, row]

    monkeypatch.setattr(retrieval, "_pair_scores", otherwise)
    positives = Pairs.from_dense(np.ones((12, 200), bool))
    with pytest.raises(RuntimeError, match="another score"):
        retrieval.stream_ranks(queries, gallery, positives, count_on_devices=count_on_devices)


WORKER = """
import sys
import jax
import numpy as np

address, process, file = sys.argv[1], int(sys.argv[2]), sys.argv[3]
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(address, num_processes=2, process_id=process)

from jsreid_jax import retrieval

class OwnRows(np.ndarray):
    read = 0

    def __getitem__(self, rows):
        if isinstance(rows, slice):
            OwnRows.read += len(range(*rows.indices(len(self))))
        return super().__getitem__(rows)

inputs = np.load(file)
pairs = [retrieval.Pairs.from_dense(inputs[name]) for name in ("relevant", "ignored")]
for count_on_devices in (False, True):
    streamed = retrieval.stream_ranks(
        inputs["queries"], inputs["gallery"].view(OwnRows), *pairs, block_size=512, top_k=7,
        count_on_devices=count_on_devices,
    )
    np.savez(
        f"{file}.{process}.{count_on_devices}.npz", ranks=streamed.ranks.ranks,
        best=streamed.best, best_scores=streamed.best_scores, read=OwnRows.read,
    )
"""


def test_two_hosts_rank_as_one(root, tmp_path):
    rng = np.random.default_rng(0)
    queries, gallery = random_embeddings(rng, 1700, whole=True)
    relevant, ignored = random_masks(rng, len(queries), len(gallery))
    file = tmp_path / "inputs.npz"
    np.savez(file, queries=queries, gallery=gallery, relevant=relevant, ignored=ignored)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, address, str(process), str(file)],
            cwd=root,
            stderr=subprocess.PIPE,
            text=True,
        )
        for process in (0, 1)
    ]
    for worker in workers:
        _, errors = worker.communicate(timeout=120)
        assert worker.returncode == 0, errors
    alone = retrieval.stream_ranks(
        queries, gallery, Pairs.from_dense(relevant), Pairs.from_dense(ignored), top_k=7
    )
    read = {}
    for process in (0, 1):
        for count_on_devices in (False, True):
            together = np.load(f"{file}.{process}.{count_on_devices}.npz")
            np.testing.assert_array_equal(together["ranks"], alone.ranks.ranks)
            np.testing.assert_array_equal(together["best"], alone.best)
            np.testing.assert_array_equal(together["best_scores"], alone.best_scores)
            read[process, count_on_devices] = int(together["read"])
    # Blocks of 512 rows: 3 whole ones, then 164 rows, which are all the first host's.
    assert (read[0, False], read[1, False]) == (3 * 256 + 164, 3 * 256)


def test_nonsense_is_refused():
    ones, pairs = np.ones((2, 3)), Pairs.from_dense(np.ones((2, 3), bool))
    with pytest.raises(ValueError, match=r"must be \(Q, G\) float32 or float64"):
        retrieval.ranks_from_scores(np.ones((2, 3), int), pairs)
    with pytest.raises(ValueError, match="expected 2 and less than 2"):
        retrieval.ranks_from_scores(ones[:, :2], pairs)
    with pytest.raises(ValueError, match="ignored hold 3 queries"):
        retrieval.ranks_from_scores(ones, pairs, Pairs.none(3))
    with pytest.raises(ValueError, match="1 scores are NaN"):
        retrieval.ranks_from_scores(np.array([[1.0, np.nan, 0.0], [1.0] * 3]), pairs)
    with pytest.raises(ValueError, match=r"must be \(., D\)"):
        retrieval.stream_ranks(np.ones((2, 4)), np.ones((3, 5)), pairs)
    with pytest.raises(ValueError, match="query row 1 has norm inf"):
        retrieval.stream_ranks(np.array([[0.0], [np.inf]]), np.ones((3, 1)), pairs)
    for value in (np.nan, 1e20):
        gallery = np.array([[1.0], [value], [1.0]], np.float32)
        with pytest.raises(ValueError, match="gallery row 1 has norm"):
            retrieval.stream_ranks(np.ones((2, 1)), gallery, pairs)


# --- Pairs ----------------------------------------------------------------------------------------


def test_pairs_are_the_dense_matrix():
    rng = np.random.default_rng(0)
    query_label, gallery_label = rng.integers(0, 9, 20), rng.integers(0, 7, 50)
    dense = query_label[:, None] == gallery_label[None]

    def assert_same(pairs, expected):
        assert pairs.starts.dtype == pairs.gallery.dtype == np.int64
        np.testing.assert_array_equal(pairs.starts, [0, *np.cumsum(expected.sum(axis=1))])
        np.testing.assert_array_equal(pairs.gallery, np.nonzero(expected)[1])
        np.testing.assert_array_equal(pairs.query, np.nonzero(expected)[0])

    pairs = Pairs.from_labels(query_label, gallery_label)
    assert_same(pairs, dense)
    assert_same(Pairs.from_dense(dense), dense)
    assert_same(Pairs.none(20), np.zeros_like(dense))
    mask = rng.random(20) < 0.5
    assert_same(pairs.take(mask), dense[mask])
    assert_same(pairs.take(np.array([3, 1, 3])), dense[[3, 1, 3]])
    assert_same(pairs.take(np.zeros(20, bool)), dense[:0])
    other = rng.random(dense.shape) < 0.5
    assert_same(pairs.without(Pairs.from_dense(other)), dense & ~other)


@pytest.mark.parametrize(
    ("starts", "gallery", "says"),
    [
        ([0, 2], [1], "number of pairs, 1"),
        ([1, 1], [], "from 0"),
        ([0, 2, 1, 3], [0, 1, 2], "must ascend"),
        ([0, 2], [1, 1], "strictly"),
        ([0, 2], [2, 1], "strictly"),
        ([0, 1], [-1], ">= 0"),
    ],
)
def test_pairs_that_are_none_are_refused(starts, gallery, says):
    with pytest.raises(ValueError, match=says):
        Pairs(np.array(starts, np.int64), np.array(gallery, np.int64))


def test_pairs_have_one_type():
    with pytest.raises(ValueError, match="int64"):
        Pairs(np.array([0, 1]), np.array([1], np.int32))


# --- Files ----------------------------------------------------------------------------------------


def test_a_file_is_the_array(tmp_path):
    rng = np.random.default_rng(0)
    queries, gallery = random_embeddings(rng, 10_000, whole=True)
    np.save(tmp_path / "gallery.npy", gallery)
    file = EmbeddingFile(tmp_path / "gallery.npy")
    assert file.shape == gallery.shape
    np.testing.assert_array_equal(file[7:5000], gallery[7:5000])
    rows = np.sort(rng.choice(10_000, 9000, replace=False))
    np.testing.assert_array_equal(file[rows], gallery[rows])
    assert file[rows[:0]].shape == (0, 8)
    assert type(file[:2]) is np.ndarray
    assert "gallery.npy" not in Path("/proc/self/maps").read_text()
    positives = Pairs.from_dense(rng.random((12, 10_000)) < 0.01)
    from_file, from_array = (
        retrieval.stream_ranks(queries, source, positives, block_size=3000).ranks.ranks
        for source in (file, gallery)
    )
    np.testing.assert_array_equal(from_file, from_array)


def write_text(path):
    path.write_text("no array at all")


def write_archive(path):
    with path.open("wb") as file:
        np.savez(file, gallery=np.zeros((3, 4), np.float32))


def write_cut_short(path):
    np.save(path, np.zeros((3, 4), np.float32))
    path.write_bytes(path.read_bytes()[:-1])


def write_array(array):
    return lambda path: np.save(path, array)


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (lambda path: None, "No such file"),
        (lambda path: path.mkdir(), "directory"),
        (lambda path: path.write_bytes(b""), "cannot be read"),
        (write_text, "cannot be read"),
        (write_archive, "archive"),
        (write_cut_short, "cannot be read"),
        (write_array(np.zeros((3, 4))), r"holds \(3, 4\) <f8"),
        (write_array(np.zeros((3, 4), ">f4")), r"holds \(3, 4\) >f4"),
        (write_array(np.zeros(3, np.float32)), r"holds \(3,\) <f4"),
        (write_array(np.zeros((3, 4), np.float32, "F")), "Fortran order"),
        (write_array(np.array([[None]])), "cannot be read"),
    ],
)
def test_a_file_that_is_none_is_refused_in_one_sentence(tmp_path, write, says):
    path = tmp_path / "gallery.npy"
    write(path)
    with warnings.catch_warnings(), pytest.raises(ModelError, match=says) as error:
        EmbeddingFile(path)
    assert str(path) in str(error.value)
    assert str(error.value).endswith("expected a .npy file of a (G, D) float32 array")
    assert "\n" not in str(error.value)


def test_a_file_that_shrinks_is_refused(tmp_path):
    path = tmp_path / "gallery.npy"
    np.save(path, np.zeros((3000, 4), np.float32))
    file = EmbeddingFile(path)
    np.save(path, np.zeros((3, 4), np.float32))
    with pytest.raises(ModelError, match="changed while it was read"):
        file[:10]


# --- Means ----------------------------------------------------------------------------------------


def some_ranks(rng, queries=50):
    counts = rng.integers(0, 5, queries)
    starts = np.concatenate([[0], np.cumsum(counts)])
    ranks = [np.sort(rng.choice(30, count, replace=False)) + 1 for count in counts]
    return Ranks(starts, np.concatenate(ranks))


def test_means_are_over_valid_queries():
    scores = np.array([[0.1, 0.9, 0.5], [0.9, 0.1, 0.5], [0.1, 0.2, 0.3]])
    relevant = np.array([[True, False, False], [True, False, False], [False] * 3])
    ranks = retrieval.ranks_from_scores(scores, Pairs.from_dense(relevant))
    per_query = retrieval.query_metrics(ranks)
    metrics = retrieval.split_metrics(per_query, np.array([True, False, True]))
    assert metrics["seen"]["mAP_step"] == pytest.approx(1 / 3)
    assert metrics["unseen"]["mAP_step"] == 1.0
    assert metrics["all"]["mAP_step"] == pytest.approx(2 / 3)
    assert [metrics[name]["valid_queries"] for name in ("all", "seen", "unseen")] == [2, 1, 1]
    assert retrieval.summarise(per_query, np.array([1]))["mINP"] == 1.0


def test_no_valid_query_is_not_a_score():
    per_query = retrieval.query_metrics(Ranks(np.array([0, 0, 0]), np.array([], np.int64)))
    for rows in (None, np.zeros(2, bool)):
        metrics = retrieval.summarise(per_query, rows)
        assert metrics.pop("valid_queries") == 0
        assert np.isnan(list(metrics.values())).all()
        assert np.isnan(list(retrieval.intervals(per_query, rows, seed=0).values())).all()


def test_intervals_are_the_bootstrap_of_the_means():
    rng = np.random.default_rng(0)
    per_query = retrieval.query_metrics(some_ranks(rng, 400))
    rows = rng.random(400) < 0.5
    found = retrieval.intervals(per_query, rows, seed=1)
    means = retrieval.summarise(per_query, rows)
    assert {*found, "valid_queries"} == {*means}
    assert found == retrieval.intervals(per_query, np.flatnonzero(rows), seed=1)
    assert found != retrieval.intervals(per_query, rows, seed=2)
    for name, key in (("mAP_step", "AP_step"), ("mINP", "INP"), ("rank5", "rank5")):
        values = per_query[key][rows]
        values = values[~np.isnan(values)]
        resampled = rng.choice(values, (4000, len(values))).mean(axis=1)
        error = resampled.std()
        np.testing.assert_allclose(
            found[name], np.percentile(resampled, [2.5, 97.5]), atol=error / 4
        )
        assert found[name][0] < means[name] < found[name][1]


def test_queries_that_ask_the_same_are_drawn_together():
    """Every description asked five times over says no more than asked once."""
    rng = np.random.default_rng(0)
    once = retrieval.query_metrics(some_ranks(rng, 60))
    often = {name: np.repeat(values, 5) for name, values in once.items()}
    asked = np.repeat(rng.permutation(60), 5)
    found = retrieval.intervals(often, asked=asked, seed=0)
    assert retrieval.intervals(once, asked=np.arange(60), seed=0) == retrieval.intervals(
        once, seed=0
    )
    for name, (low, high) in retrieval.intervals(once, asked=asked[::5], seed=0).items():
        assert found[name] == pytest.approx((low, high))
        alone = retrieval.intervals(often, seed=0)[name]
        assert alone[1] - alone[0] < 0.6 * (high - low)
    rows = np.arange(300) < 5
    assert np.isnan(retrieval.intervals(often, rows, asked=asked, seed=0)["mINP"]).all()


def test_intervals_of_equal_queries_have_no_width():
    per_query = retrieval.query_metrics(Ranks(np.arange(4), np.array([1, 1, 1])))
    assert set(retrieval.intervals(per_query, seed=0).values()) == {(1.0, 1.0)}
    single = retrieval.intervals(per_query, np.array([0]), seed=0)
    assert np.isnan(list(single.values())).all()
