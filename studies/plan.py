"""What a study is to run, checked before anything runs."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import command_line
import config_check
import experiment
from experiment import Config
from jsreid_jax import protocols
from jsreid_jax.errors import ModelError

FIELDS = (
    *("name", "title", "question", "reference", "runs"),
    *("seeds", "overrides", "protocol"),
)


@dataclass(frozen=True)
class Run:
    """One config with one seed.

    config_file, overrides: what train.py is given. config: what it makes of it. protocol: how it is
    evaluated.
    """

    name: str
    seed: int
    config_file: str
    overrides: tuple[str, ...]
    config: Config
    protocol: str
    workdir: Path

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return self.workdir.with_name(f"{self.workdir.name}.log")

    @property
    def evaluation(self) -> Path:
        """Folder of its evaluation; runs that several studies share have one per protocol."""
        return self.workdir / f"eval_test_{self.protocol}"

    @property
    def is_trained(self) -> bool:
        """Whether training has ended."""
        return (self.workdir / "finished.json").exists()


def plan(config: Config, workdir: Path) -> list[Run]:
    """All runs of a study, one seed after the other; nothing is written or run.

    Seeds are the outer loop, so that a study that is not finished yet compares all its configs.

    Raises:
        ModelError: a study that cannot be meant, a config that train.py would refuse, or a workdir
            that holds the run of another config.
    """
    _check_study(config)
    runs = []
    for seed in config.seeds:
        for entry in config.runs:
            # By field, because a flag of a tuple field that is given twice would add to it.
            given = (*config.overrides, *entry["overrides"], f"seed={seed}")
            overrides = tuple({o.partition("=")[0]: o for o in given}.values())
            try:
                run_config = command_line.load_config(entry["config"], overrides)
                config_check.check_training(run_config)
            except ModelError as error:
                raise ModelError(f"run {entry['name']}: {error}") from error
            runs.append(
                Run(
                    name=entry["name"],
                    seed=seed,
                    config_file=entry["config"],
                    overrides=overrides,
                    config=run_config,
                    protocol=config.protocol,
                    workdir=workdir / "runs" / entry["name"] / f"seed_{seed}",
                )
            )
            experiment.check_workdir(run_config, runs[-1].workdir)
    names: dict[str, str] = {}
    for run in runs[: len(config.runs)]:
        other = names.setdefault(json.dumps(experiment.as_json(run.config)), run.name)
        if other != run.name:
            raise ModelError(
                f"runs {other} and {run.name} of the study have the same config, expected a "
                "difference: check their overrides"
            )
    return runs


def _check_study(config: Config) -> None:
    """Raise ModelError for what no study can mean, before any of its configs is read."""
    missing = [field for field in FIELDS if field not in config]
    if missing:
        raise ModelError(
            f"--config is no study: it has no field {', '.join(missing)}; expected one like "
            "configs/study_rendered.py (train.py runs a single config)"
        )
    entries = list(config.runs)
    for entry in entries:
        if not isinstance(entry, Mapping) or set(entry) != {"name", "config", "overrides"}:
            found = ", ".join(map(str, entry)) if isinstance(entry, Mapping) else repr(entry)
            raise ModelError(
                f"a run of the study has the fields {found}; expected name, config and overrides"
            )
    given = (*config.overrides, *(o for e in entries for o in e["overrides"]))
    for override in given:
        if not isinstance(override, str) or not re.fullmatch(r"[\w.]+=.*", override, re.DOTALL):
            raise ModelError(
                f"the study has the override {override!r}, expected 'field=value' as "
                "'train.num_epochs=8'"
            )
        if override.startswith("seed="):
            raise ModelError(
                f"the study has the override {override!r}, expected the seeds in its field seeds "
                "(--config.seeds)"
            )
    if not entries or not config.seeds:
        raise ModelError("the study has no runs or no seeds, expected one or more of each")
    names = [entry["name"] for entry in entries]
    for name in (config.name, *names):
        if not isinstance(name, str) or not re.fullmatch(r"\w[\w.-]*", name) or name == "runs":
            raise ModelError(
                f"the name {name!r} cannot be a folder of the study: expected letters, digits and "
                "_ . -, and not 'runs'"
            )
    for what, values in (("run", names), ("seed", list(config.seeds))):
        repeated = sorted({value for value in values if values.count(value) > 1})
        if repeated:
            raise ModelError(
                f"the study has {what} {repeated[0]} more than once, expected every {what} once: "
                "a copy would count as evidence"
            )
    if config.reference not in names:
        raise ModelError(
            f"the study's reference is {config.reference!r}, expected one of its runs: "
            f"{', '.join(names)}"
        )
    if config.protocol not in protocols.PROTOCOLS:
        raise ModelError(
            f"the study's protocol is {config.protocol!r}, expected one of "
            f"{', '.join(protocols.PROTOCOLS)}"
        )
