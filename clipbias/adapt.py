"""``python -m clipbias.adapt``: every CLIP becomes a VQA model and a captioner, and their bias is measured."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clipbias.commands.common import command_parser, run_command, shared_options

if TYPE_CHECKING:
    from clipbias.tasks.recipe import TaskRecipe
    from clipbias.tasks.unit import AdaptUnit

_FILES = ("captions", "questions", "annotations", "images", "labels", "words")
QUICK = 4  # models of --quick


def parser() -> argparse.ArgumentParser:
    """Return the parser of the verb."""
    made = command_parser(
        "adapt",
        "Train every CLIP into a visual-question-answering model and a captioner and measure the bias of what they say, beside "
        "an image-blind baseline. Without options: every zoo model on the embedded world, both tasks, frozen towers, as "
        "tasks/vqa.toml and tasks/captioning.toml say. An interrupted command goes on where it stopped.",
        examples=[
            "clipbias adapt",
            "clipbias adapt --quick",
            "clipbias adapt --task captioning --mode frozen full --models zoo:vit-50 zoo:vit-95",
            "clipbias adapt --task captioning --captions captions_train2014.json --images train2014 --labels gender.csv "
            "--models ViT-B-32/openai --device cuda",
        ],
    )
    shared_options(made)
    # All cores by default: the results do not depend on it.
    made.set_defaults(engine="auto")
    what = made.add_argument_group("what to adapt to (default: tasks/vqa.toml and tasks/captioning.toml)")
    what.add_argument("--task", metavar="TASK", nargs="+", help="vqa, captioning (default: both)")
    what.add_argument(
        "--head", metavar="HEAD", nargs="+", help="heads by name, or TASK=HEAD (default: that of the recipe)"
    )
    what.add_argument(
        "--mode",
        metavar="MODE",
        nargs="+",
        help="frozen, lora, full: what of the vision tower is trained (default: frozen)",
    )
    what.add_argument(
        "--intervention",
        metavar="NAME",
        nargs="+",
        action="extend",
        help="interventions, as NAME or NAME:key=value,key=value",
    )
    what.add_argument(
        "--twins", action=argparse.BooleanOptionalAction, default=True,
        help="run the plain and the null twin of each intervention, too (default: on)",
    )  # fmt: skip
    what.add_argument("--seeds", metavar="N", nargs="+", type=int, help="training seeds (default: --seed)")
    what.add_argument(
        "--controls", action=argparse.BooleanOptionalAction, default=True,
        help="train the first two models with a second seed too (default: on)",
    )  # fmt: skip
    what.add_argument(
        "--blind", action=argparse.BooleanOptionalAction, default=True,
        help="train the image-blind baseline that competence is judged by (default: on)",
    )  # fmt: skip
    what.add_argument("--quick", action="store_true", help=f"{QUICK} models, frozen towers")
    data = made.add_argument_group("real data instead of the embedded world")
    data.add_argument("--captions", metavar="FILE", help="COCO captions, Karpathy split, or Flickr30k")
    data.add_argument(
        "--questions", metavar="FILE", help="questions in one of the formats of VQAv2, OK-VQA, A-OKVQA, GQA"
    )
    data.add_argument("--annotations", metavar="FILE", help="their answers")
    data.add_argument("--images", metavar="DIR", help="folder of the images")
    data.add_argument(
        "--labels",
        metavar="FILE",
        help="CSV of image_id and attributes (default: inferred from the captions)",
    )
    data.add_argument(
        "--words", metavar="LIST", help="word list that genders are inferred with (default: hendricks2018)"
    )
    how = made.add_argument_group("budget and computing")
    how.add_argument("--n-train", metavar="N", type=int, help="training images")
    much = how.add_mutually_exclusive_group()
    much.add_argument("--steps", metavar="N", type=int, help="training steps")
    much.add_argument("--epochs", metavar="N", type=float, help="passes over the training examples")
    how.add_argument("--views", metavar="VIEW", nargs="+", help="views, as in measure")
    how.add_argument(
        "--reference", metavar="SPEC", help="model whose space @reference views use (default: the first)"
    )
    how.add_argument(
        "--device", default="cpu", metavar="DEVICE", help="cpu, cuda, ... (default: %(default)s)"
    )
    how.add_argument(
        "--precision",
        default="fp32",
        metavar="P",
        help="fp32, or fp16 and bf16 on a GPU (default: %(default)s)",
    )
    how.add_argument(
        "--max-bad",
        type=float,
        default=0.01,
        metavar="SHARE",
        help="unreadable images tolerated (default: %(default)s)",
    )
    how.add_argument("--no-report", action="store_true", help="write the tables only")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run the verb; return 0 all done, 1 some units failed, 2 bad usage or data, 130 interrupted."""
    made = parser()
    words = list(sys.argv[1:] if argv is None else argv)

    def run() -> int:
        first, _ = made.parse_known_args(words)
        given = _study(first.study) if first.study else {}
        collected = {name: given.pop(name, None) for name in ("models", "intervention")}
        made.set_defaults(**given)
        options = made.parse_args(words)
        for name, value in collected.items():  # these collect, so a default would be added to
            setattr(options, name, getattr(options, name) or value)
        return _main(options)

    return run_command(run)


def _study(path: Path) -> dict:
    """Read what a study file sets for this verb; its folder's content comes before the shipped content."""
    from clipbias.study_parts.reading import verb_options

    return verb_options(path, "adapt")


def _main(options: argparse.Namespace) -> int:
    from clipbias.engine import parse_engine
    from clipbias.models import split_specs

    engine = _engine(options.engine, options.device)
    parse_engine(engine)
    specs = split_specs(options.models or ["zoo"])
    modes = _words(options.mode) or ["frozen"]
    if options.quick:
        specs, modes = _spread(specs, QUICK), ["frozen"]
    return adapt(
        specs, recipes=_recipes(options), heads=_words(options.head), modes=modes, interventions=options.intervention or (),
        twins=options.twins, seeds=options.seeds or [options.seed], controls=options.controls, blind=options.blind, out=options.out, engine=engine,
        device=options.device, precision=options.precision, reference=options.reference or "", max_bad=options.max_bad,
        report=not options.no_report, quiet=options.quiet, dry_run=options.dry_run,
    )  # fmt: skip


def _words(given: Sequence[str] | None) -> list[str]:
    """Return options given as words, joined by commas or not, once each."""
    return list(dict.fromkeys(word for text in given or () for word in text.split(",") if word))


def _spread(specs: list[str], n: int) -> list[str]:
    """Return ``n`` specs, evenly spread over the list, so that a quick run sees several architectures and strengths."""
    if len(specs) <= n:
        return specs
    return [specs[round(i * (len(specs) - 1) / (n - 1))] for i in range(n)]


def _engine(engine: str, device: str) -> str:
    """Return the engine: one process per core on a CPU, this process on a GPU, which units would share."""
    if engine != "auto":
        return engine
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return f"workers:{cores}" if device == "cpu" and cores > 1 else "local"


def _recipes(options: argparse.Namespace) -> list[TaskRecipe]:
    """Return the recipe of each task with the options in it."""
    from clipbias.errors import ClipbiasError
    from clipbias.tasks import recipe as recipes

    files = {name: str(getattr(options, name)) for name in _FILES if getattr(options, name)}
    tasks = _words(options.task) or _tasks_of(files) or list(recipes.TASKS)
    made = []
    for task in tasks:
        base = recipes.load(task)
        much = {
            name: getattr(options, name) for name in ("steps", "epochs") if getattr(options, name) is not None
        }
        changes: dict = {"training": base.training.model_dump() | much}
        if much:  # of all modes
            changes["modes"] = {
                m: {k: v for k, v in c.items() if k != "steps"} for m, c in base.modes.items()
            }
        if files:
            needed = {"captioning": ("captions",), "vqa": ("questions",)}[task]
            missing = [name for name in (*needed, "images") if name not in files]
            if missing:
                raise ClipbiasError(f"task {task} on real data needs --{' and --'.join(missing)}.")
            changes["files"] = base.files.model_dump() | files | {"n_train": options.n_train or 0}
        else:
            size = {"n_train": options.n_train} if options.n_train else {}
            changes["world"] = base.world.model_dump() | {"seed": options.seed} | size
        if options.views:
            changes["evaluation"] = base.evaluation.model_dump() | {"views": list(options.views)}
        made.append(recipes.parse(base.model_dump() | changes, "the options"))
    return made


def _tasks_of(files: dict[str, str]) -> list[str]:
    """Return the tasks that the files given are for."""
    return [task for task, name in (("vqa", "questions"), ("captioning", "captions")) if name in files]


def units_of(
    models: Sequence[str],
    *,
    recipes: Sequence[TaskRecipe],
    heads: Sequence[str] = (),
    modes: Sequence[str] = ("frozen",),
    interventions: Sequence[str] = (),
    twins: bool = True,
    seeds: Sequence[int] = (0,),
    controls: bool = True,
    blind: bool = True,
    out: str | Path = "runs/default",
    device: str = "cpu",
    precision: str = "fp32",
    reference: str = "",
    max_bad: float = 0.01,
) -> list[AdaptUnit]:
    """Return the units of work, the blind baselines first, one per architecture; see `adapt` for the parameters.

    Raises
    ------
    ClipbiasError
        An unknown mode, head or intervention.
    """
    from clipbias.errors import ClipbiasError, nearest
    from clipbias.instrument.adapted import HOOKS
    from clipbias.tasks.baseline import stand_ins
    from clipbias.tasks.heads import check_head
    from clipbias.tasks.interventions.compare import does, with_twins
    from clipbias.tasks.recipe import MODES
    from clipbias.tasks.unit import AdaptUnit, check_intervention

    for mode in modes:
        if mode not in MODES:
            raise ClipbiasError(f"there is no mode {mode!r}." + nearest(mode, MODES))
    for text in interventions:
        check_intervention(text)
    models, seeds = list(dict.fromkeys(models)), list(dict.fromkeys(seeds))
    base = AdaptUnit(
        "", recipes[0], "", out=str(Path(out).resolve()), device=device, precision=precision,
        reference=reference or models[0], max_bad=max_bad, hooks=HOOKS,
    )  # fmt: skip
    judged_by = stand_ins(models)
    first: list[AdaptUnit] = []
    rest: list[AdaptUnit] = []
    for recipe in recipes:
        for head in _heads_of(recipe, heads):
            check_head(head, recipe.task)
            for place, model in enumerate(models):
                mine = base.but(model=model, recipe=recipe, head=head, baseline=judged_by[model])
                if blind and judged_by[model] == model:
                    first.append(mine.but(mode="blind", seed=seeds[0]))
                for mode in modes:
                    # A second seed is what two runs of the same model differ by: the ceiling of any similarity.
                    extra = [seeds[0] + 1] if controls and len(seeds) == 1 and place < 2 else []
                    for number, seed in enumerate([*seeds, *extra]):
                        states = ("post", "second_seed", "")[min(number, 2)]
                        rest.append(mine.but(mode=mode, seed=seed, states=states))
                    texts = [t for t in interventions if does(t, recipe.task)]
                    rest += [
                        mine.but(
                            mode=mode,
                            seed=seed,
                            intervention=text,
                            states="post" if text in texts and not number else "",
                        )
                        for text in (with_twins(texts, recipe.task) if twins else dict.fromkeys(texts))
                        for number, seed in enumerate(seeds)
                    ]
    return first + rest


def _heads_of(recipe: TaskRecipe, heads: Sequence[str]) -> list[str]:
    mine = [
        h.partition("=")[2] if "=" in h else h
        for h in heads
        if "=" not in h or h.startswith(f"{recipe.task}=")
    ]
    return mine or [recipe.head]


def adapt(
    models: Sequence[str],
    *,
    recipes: Sequence[TaskRecipe] | None = None,
    heads: Sequence[str] = (),
    modes: Sequence[str] = ("frozen",),
    interventions: Sequence[str] = (),
    twins: bool = True,
    seeds: Sequence[int] = (0,),
    controls: bool = True,
    blind: bool = True,
    out: str | Path = "runs/default",
    engine: str = "local",
    device: str = "cpu",
    precision: str = "fp32",
    reference: str = "",
    max_bad: float = 0.01,
    report: bool = True,
    quiet: bool = True,
    dry_run: bool = False,
) -> int:
    """Adapt models and measure what they say; the results join those of ``measure`` in the run folder.

    Parameters
    ----------
    models : sequence of str
        Model specs, for example ``"zoo:vit-95"`` or ``"ViT-B-32/openai"``.
    recipes : sequence of TaskRecipe, optional
        Default: ``tasks/vqa.toml`` and ``tasks/captioning.toml``.
    heads : sequence of str
        ``"NAME"`` or ``"TASK=NAME"``; default that of the recipe.
    modes : sequence of {"frozen", "lora", "full"}
    interventions : sequence of str
        Run beside plain training. One that is not there for a task is left out of it.
    twins : bool
        Run each beside its plain twin (the nearest simple baseline) and its null twin (which must fail), too; the table
        ``interventions`` compares them.
    seeds : sequence of int
    controls : bool
        Train the first two models with a second seed too, when there is one seed.
    blind : bool
        Train the image-blind baseline, once for models of the same architecture. Without it competence is not judged.
    out : path
        The run folder; units done by the same recipe on the same data are kept.
    engine, device, precision : str
    reference : str
        Model whose space ``@reference`` views use; default the first model.
    max_bad : float
        Share of unreadable images above which the command stops, in [0, 1].
    report : bool
        Whether to write ``report.html``.
    quiet : bool
        Print nothing but errors.
    dry_run : bool
        List the units and what they cost; run nothing and write nothing.

    Returns
    -------
    int
        0 if every unit is done, 1 if some failed.

    Raises
    ------
    DataError
        The data are not what they should be (before any model is loaded), or no unit could be done.
    """
    from clipbias.commands.adapted import Run, plan_table
    from clipbias.tasks import recipe as known
    from clipbias.tasks.given import task_data

    recipes = list(recipes) if recipes is not None else [known.load(task) for task in known.TASKS]
    units = units_of(
        models, recipes=recipes, heads=heads, modes=modes, interventions=interventions, twins=twins, seeds=seeds,
        controls=controls, blind=blind, out=out, device=device, precision=precision, reference=reference, max_bad=max_bad,
    )  # fmt: skip
    if dry_run:
        plan_table(units, out)
        return 0
    for recipe in recipes:
        task_data(recipe)  # bad data end here, before any model is loaded
    config = {
        "recipes": {r.task: r.model_dump(mode="json") for r in recipes}, "models": list(models), "heads": list(heads),
        "modes": list(modes), "interventions": list(interventions), "twins": twins, "seeds": list(seeds), "controls": controls, "blind": blind,
        "engine": engine, "device": device, "precision": precision, "reference": reference or models[0], "max_bad": max_bad,
    }  # fmt: skip
    return Run(out, config, quiet=quiet).go(units, engine=engine, report=report)


if __name__ == "__main__":
    sys.exit(main())
