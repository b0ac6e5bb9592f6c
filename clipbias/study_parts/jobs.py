"""What a study asks of each verb: the same options as on the verb's own command line, resolved by the verb itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipbias.errors import DataError, nearest
from clipbias.study_parts.reading import StudyFile
from clipbias.study_parts.schema import STEPS

if TYPE_CHECKING:
    from clipbias.instrument.recipe import Recipe
    from clipbias.instrument.work import Unit
    from clipbias.tasks.unit import AdaptUnit


@dataclass(frozen=True)
class Jobs:
    """A study with the filters of one call.

    Parameters
    ----------
    file : StudyFile
    only : sequence of str
        Steps to do; empty for all of the study.
    models : sequence of str
        Models to measure and adapt; empty for all of the study.
    """

    file: StudyFile
    only: tuple[str, ...] = ()
    models: tuple[str, ...] = ()

    @property
    def steps(self) -> list[str]:
        """The steps to do, in order."""
        wanted = self.only or self.file.study.steps
        return [step for step in STEPS if step in wanted]

    @property
    def folder(self) -> Path:
        """The run folder."""
        return Path(self.file.study.folder)

    def options(self, verb: str) -> dict[str, Any]:
        """What the study sets for a verb."""
        return self.file.study.options(verb)

    @cached_property
    def all_models(self) -> list[str]:
        """Every model of the study, in order."""
        return list(dict.fromkeys([*self._models("measure"), *self._models("adapt")]))

    def check_filter(self) -> None:
        """Refuse a filter that names a model which the study does not have.

        Raises
        ------
        DataError
            The nearest model is named.
        """
        for name in self._filter:
            if name not in self.all_models:
                raise DataError(f"{self.file.path} has no model {name!r}." + nearest(name, self.all_models))

    @cached_property
    def _filter(self) -> list[str]:
        from clipbias.models import split_specs

        return split_specs(list(self.models)) if self.models else []

    def _models(self, verb: str) -> list[str]:
        from clipbias.models import split_specs

        return list(dict.fromkeys(split_specs(self.options(verb).get("models") or ["zoo"])))

    def chosen(self, verb: str) -> list[str]:
        """The models that a verb is to work on."""
        mine = self._models(verb)
        return [name for name in mine if name in self._filter] if self._filter else mine

    # -- measure ------------------------------------------------------------------------------------

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe of ``measure``."""
        from clipbias import measure

        given = self.options("measure")
        made = measure.parser()
        made.set_defaults(**{k: v for k, v in given.items() if k not in ("models", "out")})
        return measure._recipe(made.parse_args([]))

    @cached_property
    def measuring(self) -> dict[str, Any]:
        """Keyword arguments of ``measure.measure`` besides recipe and report."""
        given = self.options("measure")
        known: dict[str, Any] = {
            k: given[k] for k in ("engine", "device", "precision", "reference", "max_bad") if k in given
        }
        # The space of @reference views is that of the study, whichever models are chosen.
        return {"reference": self._models("measure")[0], **known, "out": self.folder}

    def measure_units(self) -> list[Unit]:
        """The units of ``measure``, as it makes them."""
        from clipbias.instrument.work import Unit

        given = self.measuring
        facts = {k: given[k] for k in ("device", "precision", "max_bad") if k in given}
        return [Unit(m, self.recipe, reference=given["reference"], **facts) for m in self.chosen("measure")]

    # -- adapt --------------------------------------------------------------------------------------

    @cached_property
    def adapting(self) -> dict[str, Any]:
        """Positional models and keyword arguments of ``adapt.adapt``."""
        from clipbias import adapt

        given = self.options("adapt")
        made = adapt.parser()
        made.set_defaults(**{k: v for k, v in given.items() if k not in ("models", "out")})
        options = made.parse_args([])
        specs, modes = self._models("adapt"), adapt._words(options.mode) or ["frozen"]
        if options.quick:
            specs, modes = adapt._spread(specs, adapt.QUICK), ["frozen"]
        return {
            "models": [m for m in specs if m in self._filter] if self._filter else specs,
            "recipes": adapt._recipes(options), "heads": adapt._words(options.head), "modes": modes,
            "interventions": options.intervention or (), "twins": options.twins,
            "seeds": options.seeds or [options.seed], "controls": options.controls, "blind": options.blind, "out": self.folder,
            "engine": adapt._engine(options.engine, options.device), "device": options.device,
            "precision": options.precision, "reference": options.reference or specs[0], "max_bad": options.max_bad,
        }  # fmt: skip

    def adapt_units(self) -> list[AdaptUnit]:
        """The units of ``adapt``, as it makes them."""
        from clipbias.adapt import units_of

        given = {k: v for k, v in self.adapting.items() if k not in ("models", "engine")}
        return units_of(self.adapting["models"], **given) if self.adapting["models"] else []


def listed(words: Sequence[str] | None) -> tuple[str, ...]:
    """Return options given as words, joined by commas or not, once each."""
    return tuple(dict.fromkeys(w for text in words or () for w in text.split(",") if w))
