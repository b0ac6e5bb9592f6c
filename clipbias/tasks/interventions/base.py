"""What every intervention is: options that are checked, a plan for the training loop, twins, and a record of labels seen."""

from __future__ import annotations

import time
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from clipbias import content
from clipbias.errors import ClipbiasError, DataError, nearest
from clipbias.tasks.interventions.cells import Cells, cells_of
from clipbias.tasks.interventions.measures import effective_size
from clipbias.tasks.plan import Plan, Stage

if TYPE_CHECKING:
    from clipbias.tasks.data import TaskData

Encoder = Callable[[np.ndarray], np.ndarray]
LEAST = 0.1  # effective sample size per image below which weights are refused


class Twins(BaseModel):
    """What is said of an intervention in ``tasks/interventions/NAME.toml``.

    Attributes
    ----------
    name, title, source : str
    plain : str
        The nearest simple baseline, as on the command line; empty for plain training.
    null : str
        The same with what makes it work taken out: it must fail.
    null_with : str
        What the null twin needs besides (for example a strong artefact in the real run as well); usually empty.
    options : mapping
        Defaults of this study; they come before those of the code.
    expect : mapping of str to float
        Thresholds of the proof on planted data, by measure.
    explain : mapping of str to str
        Why the shipped world misses some of them, with the measured value: by measure, or ``gain``, ``auc``, ``null``, ``neutral``.
    caution : str
        What it does not do.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    title: str
    source: str
    plain: str
    null: str
    null_with: str = ""
    options: dict[str, Any] = Field(default_factory=dict)
    expect: dict[str, float] = Field(default_factory=dict)
    explain: dict[str, str] = Field(default_factory=dict)
    caution: str = ""


@dataclass(frozen=True, eq=False)
class Situation:
    """What an intervention is planned on.

    Attributes
    ----------
    data : TaskData
    encoder : callable
        Image positions to embeddings before adaptation, float32 (n, d).
    cells : Cells
        Of the training split, with groups shuffled for a null twin.
    table : DataFrame
        ``image_id`` and the attributes.
    """

    data: TaskData
    encoder: Encoder
    cells: Cells
    table: pd.DataFrame


@dataclass(frozen=True, eq=False)
class Made:
    """Parts of a plan, and which labels they saw.

    Attributes
    ----------
    stages : tuple of Stage
    refit, posterior : callable, optional
    train, selection, test : str
        Labels that training, the choice of options, and prediction saw.
    notes : mapping
        Further entries of the record.
    weighted : bool
        Whether the stages' weights are refused when few examples carry them.
    """

    stages: tuple[Stage, ...] = (Stage(),)
    refit: Callable[[Any], None] | None = None
    posterior: Callable[..., Any] | None = None
    train: str = "label, group"
    selection: str = "none"
    test: str = "none"
    notes: Mapping[str, object] = field(default_factory=dict)
    weighted: bool = False


class Intervention(BaseModel):
    """A system that changes what transfers.

    Attributes
    ----------
    attribute, label : str
        Which attribute makes the groups, and what the labels are; see `cells_of`.
    seed : int
        Of everything that the plan draws.
    shuffled : bool
        Permute the groups over the training images: a null twin, from which no gain may come.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: ClassVar[str] = ""
    tasks: ClassVar[tuple[str, ...]] = ("vqa", "captioning")

    attribute: str = ""
    label: str = ""
    seed: int = Field(default=0, ge=0)
    shuffled: bool = False

    def __init__(self, **options: Any) -> None:
        for option in options:
            if option not in type(self).model_fields:
                raise DataError(
                    f"{self.name} has no option {option!r}." + nearest(option, type(self).model_fields)
                )
        try:
            super().__init__(**options)
        except ValidationError as problem:
            first = problem.errors()[0]
            where = str(first["loc"][0]) if first["loc"] else "options"
            raise DataError(
                f"{self.name}: {where} cannot be {first['input']!r}: {first['msg'][:1].lower()}{first['msg'][1:]}."
            ) from problem

    def plan(self, data: TaskData, encoder: Encoder, groups: pd.DataFrame, split: str = "train") -> Plan:
        """Return what the training loop has to do.

        Parameters
        ----------
        data : TaskData
        encoder : callable
            Image positions to embeddings before adaptation, float32 (n, d), L2-normalised.
        groups : DataFrame
            ``image_id`` and the protected attributes.
        split : str
            What is trained on.

        Returns
        -------
        Plan
            Its record says which labels were seen, how many images are used, their effective number and the seconds spent.

        Raises
        ------
        DataError
            There are no group labels, a group is missing that is needed, or too few examples would carry the weights.
        """
        if data.task not in self.tasks:
            raise DataError(f"{self.name} does {', '.join(self.tasks)}, not {data.task}.")
        began = time.monotonic()
        cells = cells_of(data, groups, split, attribute=self.attribute, label=self.label)
        if self.shuffled:
            cells = cells.shuffled(self.seed)
        made = self._make(Situation(data, encoder, cells, groups))
        used, effective = _amount(made.stages, cells)
        if made.weighted:
            refuse_few(effective, used, self.name)
        record = {
            "labels": cells.what, "groups": f"{cells.attribute} ({', '.join(cells.groups)})",
            "seen in training": made.train, "seen in selection": made.selection, "seen at test": made.test,
            "images": len(cells), "images used": used, "effective images": round(effective, 1), **made.notes,
            "planning seconds": round(time.monotonic() - began, 3),
        }  # fmt: skip
        if self.shuffled:
            record["groups"] = f"{record['groups']}, shuffled"
        return Plan(self.name, made.stages, made.refit, made.posterior, record)

    def _make(self, on: Situation) -> Made:
        raise NotImplementedError

    def __str__(self) -> str:
        given = ",".join(f"{name}={getattr(self, name)}" for name in sorted(self.model_fields_set))
        return f"{self.name}:{given}" if given else self.name


def _amount(stages: tuple[Stage, ...], cells: Cells) -> tuple[int, float]:
    """Return the images that the last stage on the task's own data uses, and their effective number."""
    own = [stage for stage in stages if stage.data is None]
    if not own:
        return 0, 0.0
    index, weights = own[-1].entries(len(cells.home))
    carried = np.bincount(cells.home[index], weights, len(cells))
    asked = np.bincount(cells.home[index], minlength=len(cells))
    units = np.bincount(cells.home, minlength=len(cells))
    each = np.divide(carried, units, out=np.zeros(len(cells)), where=units > 0)
    return int((asked > 0).sum()), effective_size(each)


def refuse_few(effective: float, n: int, name: str, least: float = LEAST) -> None:
    """Raise if the effective sample size is below a share of the sample.

    Raises
    ------
    DataError
    """
    if effective < least * n:
        raise DataError(
            f"{name}: {n} images would count like {effective:.1f}; below {least:g} per image the result hangs on a few of them. "
            "Balance fewer words or less strictly, merge rare groups, or use more data."
        )


# -- registry -----------------------------------------------------------------------------------

_KINDS: dict[str, type[Intervention]] = {}


def register(kind: type[Intervention]) -> type[Intervention]:
    """Make an intervention available by its name."""
    _KINDS[kind.name] = kind
    return kind


def intervention_names() -> list[str]:
    """Return the names of the interventions."""
    return sorted(_KINDS)


def about(name: str) -> Twins:
    """Return what is said of an intervention: its source, its plain and null twin, its thresholds.

    Raises
    ------
    ClipbiasError
        There is none of that name, or its file is wrong.
    """
    if name not in _KINDS:
        raise ClipbiasError(f"there is no intervention {name!r}." + nearest(name, _KINDS))
    path = content.find("tasks", f"interventions/{name}.toml")
    try:
        with open(path, "rb") as file:
            return Twins.model_validate({"name": name, **tomllib.load(file)})
    except (ValidationError, tomllib.TOMLDecodeError) as problem:
        raise ClipbiasError(f"{path}: {str(problem).splitlines()[0]}") from problem


def parse(text: str) -> Intervention:
    """Return an intervention from ``NAME`` or ``NAME:option=value,option=value``.

    Options that are not given come from ``tasks/interventions/NAME.toml``.

    Raises
    ------
    ClipbiasError
        No such intervention or option, or a value that it does not take.
    """
    name, _, rest = text.strip().partition(":")
    twins = about(name.strip())
    given: dict[str, str] = {}
    for part in rest.split(",") if rest.strip() else ():
        key, equals, value = part.partition("=")
        if not equals or not key.strip():
            raise ClipbiasError(
                f"intervention {text!r}: {part!r} is not option=value; write {name}:option=value,option=value."
            )
        if key.strip() in given:
            raise ClipbiasError(f"intervention {text!r} gives {key.strip()!r} twice.")
        given[key.strip()] = value.strip()
    return _KINDS[name.strip()](**{**twins.options, **given})


def twins_of(text: str) -> dict[str, str]:
    """Return what is run beside an intervention: ``{"plain": ..., "null": ...}``, as on the command line.

    The attribute, label and seed of the text are handed on. An empty text is plain training.
    """
    name, _, rest = text.strip().partition(":")
    found = about(name)
    shared = [
        part for part in rest.split(",") if part.partition("=")[0].strip() in ("attribute", "label", "seed")
    ]

    def with_shared(twin: str) -> str:
        if not twin or not shared:
            return twin
        return twin + ("," if ":" in twin else ":") + ",".join(shared)

    return {"plain": with_shared(found.plain), "null": with_shared(found.null)}


def stage_of(cells: Cells, images: np.ndarray, weights: np.ndarray | None = None, **more: Any) -> Stage:
    """Return a stage that trains on a multiset of images with all their examples."""
    index, each = cells.examples(images, weights)
    return replace(Stage(index=index, weights=None if weights is None else each), **more)
