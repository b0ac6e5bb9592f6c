"""``python -m clipbias.measure``: the intrinsic bias of CLIP models, on global and local views."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clipbias.commands.common import command_parser, run_command, shared_options

if TYPE_CHECKING:
    from clipbias.instrument.recipe import Recipe
    from clipbias.metrics.presets import Preset
    from clipbias.results.run import RunFolder

# What replaces what in tables that `adapt` writes too; the others are a model's own.
_UNIT = {
    "intrinsic": ["model", "stage"],
    "views": ["model", "image_set"],
    "left_out": ["model", "image_set"],
}
_RANKING = ["skew", "max_skew", "min_skew", "ndkl", "bias_at_k", "normalized_entropy", "c_asc"]


def parser() -> argparse.ArgumentParser:
    """Return the parser of the verb."""
    made = command_parser(
        "measure",
        "Measure the social bias of CLIP models on global and local views of image sets, and write a run folder with a report. "
        "Without options: every zoo model on the embedded sets, as tasks/measure.toml says.",
        examples=[
            "clipbias measure",
            "clipbias measure --models ViT-B-32/laion2b_s34b_b79k ViT-B-32/openai --out runs/two",
            "clipbias measure --models 'file:mine.pt?model=ViT-B-32' --image-set 'fairface:val.csv?images=val' --attributes race",
            "clipbias measure --image-set 'table:people.csv?images=photos&attributes=gender' --views global place kmeans",
            "clipbias measure --models scores:scores.csv --image-set 'table:labels.csv?images=none&id_column=image_id&attributes=race,gender'",
        ],
    )
    shared_options(made)
    what = made.add_argument_group("what to measure (default: tasks/measure.toml)")
    what.add_argument(
        "--image-set", metavar="SET", help="an embedded set, or KIND:TABLE?images=DIR&attributes=a,b"
    )
    what.add_argument("--probe", metavar="NAME", help="probe set put to the images (default: roles)")
    what.add_argument(
        "--attributes", metavar="NAME", nargs="+", help="perceived attributes (default: all of the image set)"
    )
    what.add_argument(
        "--truth",
        metavar="COLUMN",
        help="column that holds the concept an image shows; allows zero-shot recall",
    )
    what.add_argument(
        "--caption", metavar="COLUMN", help="column of captions that name no attribute; allows retrieval"
    )
    what.add_argument(
        "--harmful",
        metavar="NAME",
        help="probe set whose items count as harm when they win; of stored scores also columns, joined by commas",
    )
    what.add_argument(
        "--views",
        metavar="VIEW",
        nargs="+",
        help="global, COLUMN, COLUMN=LEVEL, kmeans[:K][@reference], text:QUERY@N, where:...",
    )
    what.add_argument("--metrics", metavar="NAME", nargs="+", help="metrics by name")
    what.add_argument(
        "--k",
        metavar="K",
        type=_number,
        help="length of the ranked list: images, or a share of the view below 1",
    )
    what.add_argument(
        "--protocol",
        metavar="NAME",
        help="choices of an earlier study instead of strict: berg2022, visogender, sobit, clip2021, ghate2025, ramos2025, fairerclip",
    )
    what.add_argument(
        "--explain",
        action="store_true",
        help="print how the protocol differs from strict and what that changes; measure nothing",
    )
    what.add_argument(
        "--reference",
        metavar="SPEC",
        help="model whose space @reference views use (default: the first model)",
    )
    how = made.add_argument_group("computing")
    how.add_argument(
        "--device", default="cpu", metavar="DEVICE", help="cpu, cuda, cuda:0, ... (default: %(default)s)"
    )
    how.add_argument(
        "--precision", default="fp32", metavar="P", help="fp32, fp16 or bf16 (default: %(default)s)"
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


def _number(text: str) -> float:
    value = float(text)
    return int(value) if value >= 1 and value == int(value) else value


def main(argv: Sequence[str] | None = None) -> int:
    """Run the verb; return 0 all done, 1 some models failed, 2 bad usage or data, 130 interrupted."""
    made = parser()
    words = list(sys.argv[1:] if argv is None else argv)

    def run() -> int:
        first, _ = made.parse_known_args(words)
        given = _study(first.study) if first.study else {}
        models = given.pop("models", None)  # --models collects, so a default would be added to
        made.set_defaults(**given)
        options = made.parse_args(words)
        options.models = options.models or models
        return _main(options)

    return run_command(run)


def _study(path: Path) -> dict:
    """Read what a study file sets for this verb; its folder's content comes before the shipped content."""
    from clipbias.study_parts.reading import verb_options

    return verb_options(path, "measure")


def _recipe(options: argparse.Namespace) -> Recipe:
    from clipbias.instrument import recipe

    base = recipe.load()
    preset = _preset(options, base)
    chosen = preset.protocol(base.protocol) if preset else base.protocol
    protocol = chosen.model_dump() | {"seed": options.seed} | ({"k": options.k} if options.k else {})
    changes: dict = {"protocol": protocol}
    if options.views:
        changes["views"] = options.views
    own = ("image_set", "probe", "attributes", "metrics", "truth", "caption", "harmful")
    if any(getattr(options, name) for name in own):
        image_set = options.image_set or base.measurements[0].image_set
        first = next((m for m in base.measurements if m.image_set == image_set), None)
        start = (
            first.model_dump() if first else {"image_set": image_set, "metrics": _default_metrics(options)}
        )
        given = {name: getattr(options, name) for name in own if getattr(options, name)}
        if not options.probe and _all_stored(options.models):
            given["probe"] = ""  # stored columns name their own probes
        changes["measurements"] = [{**start, **given, **({"views": options.views} if options.views else {})}]
    elif options.views:
        changes["measurements"] = [{**m.model_dump(), "views": options.views} for m in base.measurements]
    return recipe.parse(base.model_dump() | changes, "the options")


def _preset(options: argparse.Namespace, base: Recipe) -> Preset | None:
    """Return the preset that is asked for; what it asks fills the options that are not given."""
    from clipbias.metrics.presets import load_preset

    if not options.protocol:
        return None
    preset = load_preset(options.protocol)
    for name, value in preset.ask.model_dump(exclude_none=True).items():
        if not getattr(options, name):
            setattr(options, name, value)
    return preset


def _all_stored(models: list[str] | None) -> bool:
    from clipbias.models.stored import is_stored

    return bool(models and all(map(is_stored, models)))


def _default_metrics(options: argparse.Namespace) -> list[str]:
    return [
        *_RANKING,
        *(["zero_shot_recall", "zero_shot_disparity"] if options.truth else []),
        *(["harm_rate", "harm_composition", "harm_disparity"] if options.harmful else []),
        *(["selection_rate", "demographic_parity"] if _all_stored(options.models) else []),
        *(["recall_at_k", "kl_recall"] if options.caption else []),
    ]


def _main(options: argparse.Namespace) -> int:
    if options.explain:
        from clipbias.commands.explain import explain

        return explain(options.protocol or "strict")
    from clipbias.engine import parse_engine
    from clipbias.models import split_specs

    parse_engine(options.engine)
    recipe = _recipe(options)
    specs = split_specs(options.models or ["zoo"])
    if options.dry_run:
        return _plan(specs, recipe, options)
    outcome = measure(
        specs, recipe=recipe, out=options.out, engine=options.engine, device=options.device, precision=options.precision,
        reference=options.reference or "", max_bad=options.max_bad, report=not options.no_report, quiet=options.quiet,
    )  # fmt: skip
    return outcome


def measure(
    models: Sequence[str],
    *,
    recipe: Recipe | None = None,
    out: str | Path = "runs/default",
    engine: str = "local",
    device: str = "cpu",
    precision: str = "fp32",
    reference: str = "",
    max_bad: float = 0.01,
    report: bool = True,
    quiet: bool = True,
) -> int:
    """Measure models and write a run folder.

    Parameters
    ----------
    models : sequence of str
        Model specs, for example ``"zoo:vit-95"`` or ``"ViT-B-32/openai"``.
    recipe : Recipe, optional
        Default: ``tasks/measure.toml``.
    out : path
        The run folder; models already measured by the same recipe on the same data are kept.
    engine, device, precision : str
    reference : str
        Model whose space ``@reference`` views use; default the first model.
    max_bad : float
        Share of unreadable images above which the command stops, in [0, 1].
    report : bool
        Whether to write ``report.html``.
    quiet : bool
        Print nothing but errors.

    Returns
    -------
    int
        0 if every model was measured, 1 if some failed.

    Raises
    ------
    DataError
        A data set, column or level is wrong (before anything is written), or no model could be measured.
    """
    from functools import partial

    from rich.console import Console

    from clipbias.engine import run_units
    from clipbias.instrument import images
    from clipbias.instrument.recipe import load
    from clipbias.instrument.stored import measure_one
    from clipbias.instrument.work import Unit
    from clipbias.results.run import RunFolder, new_manifest, now

    recipe = recipe or load()
    for measurement in recipe.measurements:
        images.load(measurement)  # bad data sets end here, before any model is loaded
    folder = RunFolder(out)
    before = folder.manifest if folder.exists() else {}
    old = before.get("units", {})
    units = [
        Unit(m, recipe, device, precision, reference or models[0], max_bad, old.get(m, {}).get("key", ""))
        for m in dict.fromkeys(models)
    ]
    console = Console(stderr=True, quiet=quiet)
    with _progress(console) as progress:
        bar = progress.add_task("models", total=len(units))
        work = (
            partial(measure_one, on_step=lambda text: progress.update(bar, description=text))
            if engine == "local"
            else measure_one
        )
        manifest = new_manifest(
            config={**before.get("config", {}), "recipe": recipe.model_dump(mode="json"), "models": list(models), "device": device, "precision": precision,
                    "reference": reference or models[0], "engine": engine, "max_bad": max_bad},
            seeds={"protocol": recipe.protocol.seed}, protocols={recipe.protocol.name: recipe.protocol.hash},
            units=dict(old), data=before.get("data", {}),
        )  # fmt: skip

        def store(outcome) -> None:
            progress.advance(bar)
            if not outcome.ok:
                console.print(f"[red]failed[/red] {outcome.unit.model}: {outcome.error}", highlight=False)
                return
            done = outcome.value
            if not folder.exists():
                folder.write_manifest(manifest)
            for name, frame in done.tables.items():
                folder.merge(name, frame, unit=_UNIT.get(name, ["model"]), order=name == "intrinsic")
            if not done.kept:
                manifest["units"][outcome.unit.model] = {
                    "key": done.key,
                    "seconds": round(outcome.seconds, 1),
                }
            manifest["data"].update(done.data)
            folder.write_manifest(manifest)

        outcomes = run_units(units, work, engine=engine, on_done=store)
    failed = [o for o in outcomes if not o.ok]
    if len(failed) == len(outcomes):
        worst = max(failed, key=lambda o: o.exit_code)
        from clipbias.errors import DataError, ModelError

        raise (DataError if worst.exit_code == 2 else ModelError)(worst.error)
    done = [o.value for o in outcomes if o.ok]
    encoded, reused, kept = (
        sum(d.encoded for d in done),
        sum(d.reused for d in done),
        sum(d.kept for d in done),
    )
    if kept < len(done) or "validity" not in folder.tables():
        _finish(folder, recipe, console)
    manifest["ended"] = now()
    folder.write_manifest(manifest)
    console.print(
        f"{len(done)} models, {kept} of them measured before; embeddings: {encoded:,} computed, {reused:,} from the cache"
        + (" (nothing was encoded)" if not encoded else "") + ".", highlight=False,
    )  # fmt: skip
    if not quiet:
        _print(folder, list(models))
    if report:
        from clipbias.reports import render

        with console.status("writing the report"):
            page = render(folder, folder.path / "report.html")
        print(page)
    else:
        print(folder.path)
    for outcome in failed:
        print(f"clipbias: {outcome.unit.model} was not measured: {outcome.error}", file=sys.stderr)
    return int(bool(failed))


def _progress(console):
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        BarColumn(30), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.description}"),
        console=console, transient=True, disable=console.quiet,
    )  # fmt: skip


def _finish(folder: RunFolder, recipe: Recipe, console) -> None:
    """Write the tables that need all models: what the metrics mean, the prompts, the proof on planted truth."""
    import pandas as pd

    from clipbias import probes
    from clipbias.analysis.stability import rank_stability
    from clipbias.instrument.proven import metric_validity
    from clipbias.instrument.validity import question, summaries, validity
    from clipbias.metrics.power import corrected_tests
    from clipbias.metrics.record import get, registry

    names = list(dict.fromkeys(name for m in recipe.measurements for name in m.metrics))
    tests = corrected_tests(folder.read("intrinsic"), {name: m.worse for name, m in registry().items()})
    folder.write("tests", tests)
    if "local" in folder.tables():  # a run made before local views were compared has none
        folder.write("stability", rank_stability(folder.read("local")))
    facts = [get(name) for name in names]
    folder.merge("metrics", unit=["metric"], order=False, frame=pd.DataFrame([
        {"metric": m.name, "title": m.about, "range_low": m.range[0], "range_high": m.range[1], "ideal": m.ideal, "unit": m.unit,
         "sign": m.sign, "direction": m.direction, "interval": m.interval_text, "reference": m.reference} for m in facts
    ]))  # fmt: skip
    known = set(probes.list_sets()["name"])
    # Stored scores name their own columns: what is no probe set has no prompts.
    used = dict.fromkeys(n for m in recipe.measurements for n in (m.probe, m.harmful) if n in known)
    sets = [probes.load(name) for name in used]
    prompts = [
        s.prompts.assign(
            probe_set=s.name, version=s.version, licence=s.licence, source=s.source, offensive=s.offensive
        )
        for s in sets
    ]
    if prompts:
        folder.write("prompts", pd.concat(prompts, ignore_index=True))
    with console.status("checking the instruments on planted truth"):
        models, intrinsic = folder.read("models"), folder.read("intrinsic")
        table = validity(
            intrinsic,
            models,
            bands=folder.read("null_bands"),
            false_positives=folder.read("false_positives") if "false_positives" in folder.tables() else None,
        )
    folder.write("validity", table)
    folder.write("metric_validity", metric_validity(folder.read("metrics")["metric"]))
    folder.write(
        "planted", summaries(intrinsic, question()).merge(models[["model", "planted_strength"]], on="model")
    )


def _print(folder: RunFolder, models: list[str]) -> None:
    """Print models x metrics on the global view (value, interval, worst group), and the proof on planted truth."""
    from clipbias.commands.tables import print_table
    from clipbias.instrument.overview import overview, proof

    for (image_set, attribute), table in overview(folder.read("intrinsic"), models).items():
        print_table(
            table,
            title=f"{image_set}, perceived {attribute}, all images (mean over probes; interval; worst group)",
        )
    validity = folder.read("validity")
    if len(validity):
        print_table(
            proof(validity), title="Do the instruments see what was planted? (analysis/validity.toml)"
        )


def _plan(specs: list[str], recipe: Recipe, options: argparse.Namespace) -> int:
    """Print the units, what is cached and what remains to be computed; write nothing."""
    import pandas as pd

    from clipbias.commands.tables import print_table
    from clipbias.instrument.stored import plan_one
    from clipbias.results.run import RunFolder

    folder = RunFolder(options.out)
    old = folder.manifest.get("units", {}) if folder.exists() else {}
    records = [
        plan_one(spec, recipe, options.device, options.precision)
        | {"in the run folder": "yes" if spec in old else "no"}
        for spec in specs
    ]
    print_table(pd.DataFrame(records), title=f"{len(specs)} units would go into {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
