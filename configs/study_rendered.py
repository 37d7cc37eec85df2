"""Studies on the rendered default: which configs are compared over which seeds, and why.

Command: python study.py --config configs/study_rendered.py:rq1 --workdir runs/studies
Presets: none (the family), rq1 to rq4 (the paper's questions), ours, gap (the adversary),
and debug (tests use it).

A run that several presets name is trained once: give them the same --workdir.
"""

from typing import Any

from ml_collections import ConfigDict


def run(name: str, config: str, *overrides: str) -> dict[str, Any]:
    """One line of a table: a config of train.py and what is set differently, as "field=value"."""
    return {"name": name, "config": config, "overrides": overrides}


RECOGNITION = run("recognition", "configs/recognition.py")
TWO_STREAM = run("two_stream", "configs/two_stream.py")
AAIPR = run("aaipr", "configs/aaipr.py")
ASMR = run("asmr", "configs/asmr.py")
SAL = run("sal", "configs/sal.py")
JSREID = run("jsreid", "configs/jsreid.py")

_DEBUG = "configs/rendered_market.py:debug"

# Fewer passes than the default's 10 epochs, so that the dearest run trains and is evaluated within
# three minutes on two cores; validation half way and at the end, as the default's.
_BUDGET = ("train.num_epochs=8", "train.eval_every_epochs=4")

# By preset: title, question, name of the reference, runs.
STUDIES = {
    "family": (
        "The family on the rendered default",
        "Which method of the family finds people by description best?",
        "jsreid",
        (RECOGNITION, TWO_STREAM, AAIPR, ASMR, SAL, JSREID),
    ),
    "rq1": (
        "A joint space",
        "Does a joint space of images and descriptions find unseen descriptions better than "
        "recognising attributes first?",
        "recognition",
        (RECOGNITION, TWO_STREAM),
    ),
    "rq2": (
        "Attention",
        "Does attention to attribute groups help, also against the attributes that it is taught "
        "without attention (aaipr_attribute_head)?",
        "aaipr_no_attention",
        (
            # The loss of the maps goes with them: without attention there is nothing to predict.
            run("aaipr_no_attention", "configs/aaipr.py", "model.attention=none"),
            # What images learn of attributes without attention: the same answers as the group
            # predictions, without the balance of the one that maps learn from.
            run(
                "aaipr_attribute_head",
                "configs/aaipr.py",
                "model.attention=none",
                "losses.attribute_head.weight=4",
            ),
            AAIPR,
            run(
                "aaipr_conditioned",
                "configs/aaipr.py",
                "model.attention=guided+conditioned",
                "losses.conditioned.weight=1",
                "eval.rerank=100",
            ),
        ),
    ),
    "rq3": (
        "The adversary",
        "Does the semantically consistent adversary help, does it need the semantic term, and who "
        "should be the generator?",
        "aaipr",
        (
            AAIPR,
            run("aaipr_no_adversary", "configs/aaipr.py", "losses.adversary.weight=0"),
            run("aaipr_no_semantics", "configs/aaipr.py", "losses.attribute_concept.weight=0"),
            run("aaipr_images_generate", "configs/aaipr.py", "losses.generator=images"),
            run("aaipr_both_generate", "configs/aaipr.py", "losses.generator=both"),
        ),
    ),
    "rq4": (
        "Against the others",
        "Is the paper's method better than predicting attributes, and than the methods after it?",
        "aaipr",
        (AAIPR, RECOGNITION, ASMR, SAL, JSREID),
    ),
    "ours": (
        "Parts of jsreid",
        "What does each part of jsreid add?",
        "jsreid",
        (
            JSREID,
            run("jsreid_no_adversary", "configs/jsreid.py", "losses.adversary.weight=0"),
            run("jsreid_no_dropout", "configs/jsreid.py", "data.description_dropout=0"),
            run("jsreid_no_contrastive", "configs/jsreid.py", "losses.contrastive.weight=0"),
            run("jsreid_no_fusion", "configs/jsreid.py", "eval.score=cosine"),
            # The other half of the fused score: what its own recognition finds without embeddings.
            run("jsreid_recognition_alone", "configs/jsreid.py", "eval.score=recognition"),
        ),
    ),
    "gap": (
        "The adversary where the modalities lie apart",
        "Does the adversary bring images and descriptions together where the contrastive loss has "
        "parted them, and what does it cost?",
        "jsreid_apart",
        (
            # More of the contrastive loss, and both settings of the game, from docs/tuning.md.
            run(
                "jsreid_apart",
                "configs/jsreid.py",
                "losses.contrastive.weight=0.25",
                "losses.adversary.weight=0",
            ),
            run(
                "jsreid_brought_together",
                "configs/jsreid.py",
                "losses.contrastive.weight=0.25",
                "losses.adversary.weight=0.3",
                "optimizer.discriminator_learning_rate=3e-4",
            ),
        ),
    ),
    "debug": (
        "Two runs of two dozen people",
        "Does a study run? Its numbers mean nothing.",
        "joint",
        (
            run("joint", _DEBUG, "eval.score=cosine"),
            run("fused", "configs/jsreid.py:debug"),
        ),
    ),
}


def get_config(preset: str = "") -> ConfigDict:
    """A study; "" is the family. ValueError: an unknown preset."""
    name = preset or "family"
    if name not in STUDIES:
        raise ValueError(
            f"preset {preset!r} of study_rendered.py: expected none or one of {', '.join(STUDIES)}"
        )
    study: Any = ConfigDict()
    # Folder of the tables, below --workdir.
    study.name = name
    study.title, study.question, study.reference, study.runs = STUDIES[name]
    # Every run is trained once with each.
    study.seeds = (0, 1, 2)
    # Set in every run, for one budget or one data folder; a run's own overrides come after.
    study.overrides = _BUDGET
    # How all are evaluated, on the test split.
    study.protocol = "category"
    if name == "debug":
        study.seeds = (0, 1)
        study.overrides = (
            *("train.num_epochs=1", "train.eval_every_epochs=0.5"),
            *("model.attention=none", "num_cpu_devices=1", "losses.adversary.start_epoch=0.5"),
        )
    return study
