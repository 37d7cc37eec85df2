import hashlib
import io
import os
import pickle
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from games import make_game, make_state, trees_equal
from safetensors.numpy import save_file

from jsreid_jax import pretrained
from jsreid_jax.errors import ModelError
from jsreid_jax.models.backbones import create_backbone

WEIGHTS = Path(__file__).parent / "weights"


@pytest.mark.parametrize("name", ["zip.pth", "stream.pth", "safe.safetensors"])
def test_every_format_gives_the_same_tensors(name):
    numbers = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    expected = {
        "numbers": numbers,
        "turned": numbers[1].T,
        "half": np.array([0.5, -2.0]),
        # safetensors does not read these without torch.
        **({} if name.endswith(".safetensors") else {"brain": np.array([1.5, 3.0])}),
        "parameter": np.array([[7.0]]),
        "count": np.array(5),
    }
    found = pretrained.read_tensors(WEIGHTS / name)
    assert found.keys() == expected.keys()
    for key, array in expected.items():
        np.testing.assert_array_equal(found[key].astype(np.float64), array)


class Calls:
    """Runs a command where it is unpickled."""

    def __reduce__(self):
        return os.system, ("touch pwned",)


def as_zip(pickled: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
    return stream.getvalue()


def test_code_in_a_file_is_refused_and_does_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pickled = pickle.dumps({"weight": Calls()}, protocol=2)
    for name, content in (("zip.pth", as_zip(pickled)), ("stream.pth", pickled)):
        file = tmp_path / name
        file.write_bytes(content)
        with pytest.raises(ModelError, match=rf"{name}: does not read \(it holds posix.system"):
            pretrained.read_tensors(file)
    assert not (tmp_path / "pwned").exists()
    with pytest.raises(ModelError, match=r"holds torch\.nn.*Linear, which is no tensor: save a s"):
        pretrained.read_tensors(WEIGHTS / "module.pth")


@pytest.mark.parametrize("name", ["zip.pth", "stream.pth", "safe.safetensors"])
def test_damaged_files_are_one_sentence(tmp_path, name):
    content = (WEIGHTS / name).read_bytes()
    file = tmp_path / name
    for cut in {0, 1, 10, *range(20, len(content), 37)}:
        file.write_bytes(content[:cut])
        with pytest.raises(ModelError, match=f"{name}: does not read.*expected the weights of a"):
            pretrained.read_tensors(file)


def test_missing_files_and_others_than_named_are_refused(tmp_path):
    with pytest.raises(ModelError, match=r"nowhere\.pth: cannot be read"):
        pretrained.read_tensors(tmp_path / "nowhere.pth")
    with pytest.raises(ModelError, match="cannot be read"):
        pretrained.read_tensors(tmp_path)
    content = (WEIGHTS / "zip.pth").read_bytes()
    digest = hashlib.sha256(content).hexdigest()[:8]
    right, wrong = tmp_path / f"resnet50-{digest}.pth", tmp_path / "resnet50-0676ba61.pth"
    right.write_bytes(content)
    wrong.write_bytes(content)
    assert "numbers" in pretrained.read_tensors(right)
    with pytest.raises(ModelError, match=f"begins with {digest}, expected 0676ba61"):
        pretrained.read_tensors(wrong)


def variables_of(backbone: str):
    network = create_backbone(backbone, last_stride=2, axis_name=None, dtype=jnp.float32)
    image = jnp.zeros((1, 64, 32, 3))
    return network, jax.eval_shape(lambda: network.init(jax.random.key(0), image, train=False))


def test_files_of_another_network_are_refused(tmp_path):
    _, like = variables_of("resnet18")
    like = {name: like[name] for name in ("params", "batch_stats")}
    with pytest.raises(ModelError, match=r"zip.pth: is not of resnet18: .* is not there, expected"):
        pretrained.backbone_variables(WEIGHTS / "zip.pth", "resnet18", like)


@pytest.mark.parametrize(
    ("backbone", "count", "some"),
    [
        ("resnet18", 100, ["conv1.weight", "layer1.1.bn2.bias", "layer2.0.downsample.0.weight"]),
        ("resnet50", 265, ["bn1.running_var", "layer1.0.downsample.1.weight", "layer4.2.bn3.bias"]),
        (
            "mobilenet_v2",
            260,
            ["features.0.1.weight", "features.1.conv.0.0.weight", "features.1.conv.1.weight",
             "features.1.conv.2.bias", "features.17.conv.3.running_mean", "features.18.1.bias"],
        ),
    ],
)  # fmt: skip
def test_every_leaf_has_a_name_of_torchvision(backbone, count, some):
    _, like = variables_of(backbone)
    leaves = jax.tree_util.tree_leaves_with_path(dict(like))
    names = {pretrained.torch_name(backbone, path) for path, _ in leaves}
    assert len(names) == len(leaves) == count
    assert names >= set(some)


@pytest.mark.parametrize("backbone", pretrained.BACKBONES)
def test_a_backbone_computes_what_torch_does(tmp_path, backbone):
    """Weights under torchvision's names, in the networks of torch: the same features."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    import torch_networks

    torch.manual_seed(0)
    theirs = torch_networks.create(backbone)
    theirs.train()
    # Statistics that are not those of a fresh network.
    with torch.no_grad():
        theirs(torch.randn(4, 3, 64, 64))
    theirs.eval()
    file = tmp_path / "weights.pth"
    torch.save(theirs.state_dict(), file)
    network, like = variables_of(backbone)
    like = {name: like[name] for name in ("params", "batch_stats")}
    variables = pretrained.backbone_variables(file, backbone, like)
    image = np.random.default_rng(0).normal(size=(2, 64, 32, 3)).astype(np.float32)
    ours = network.apply(variables, image, train=False)[-1]
    with torch.no_grad():
        expected = theirs(torch.from_numpy(image.transpose(0, 3, 1, 2))).numpy()
    np.testing.assert_allclose(ours, expected.transpose(0, 2, 3, 1), rtol=1e-3, atol=1e-4)


def test_a_fresh_state_begins_with_the_file_in_its_backbone_alone(tmp_path, monkeypatch):
    monkeypatch.setitem(pretrained._NAMES, "resnet_tiny", lambda module: module)
    state = make_state(make_game(axis_name=None, keeps_average=True))
    parts = state.embedder.params["image_stream"], state.batch_stats["image_stream"]
    rng = np.random.default_rng(0)
    tensors, expected = {}, {}
    for tree in (part["backbone"] for part in parts):
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            *modules, kind = (key.key for key in path)
            array = rng.normal(size=leaf.shape).astype(np.float32)
            expected[(*modules, kind)] = array
            name = f"{'/'.join(modules)}.{pretrained._LEAVES[kind]}"
            turned = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array
            tensors[name] = np.ascontiguousarray(turned)
    file = tmp_path / "weights.safetensors"
    save_file(tensors, file)
    begun = pretrained.with_pretrained_backbone(state, file, "resnet_tiny")
    for tree in (begun.embedder.params, begun.batch_stats, begun.average):
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree["image_stream"]["backbone"]):
            np.testing.assert_array_equal(leaf, expected[tuple(key.key for key in path)])
    for part in ("attention", "projection"):
        after, before = (s.embedder.params["image_stream"][part] for s in (begun, state))
        assert trees_equal(after, before)
    name = next(iter(tensors))
    save_file(tensors | {name: np.full_like(tensors[name], np.nan)}, file)
    with pytest.raises(ModelError, match="not finite"):
        pretrained.with_pretrained_backbone(state, file, "resnet_tiny")
