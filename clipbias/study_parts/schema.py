"""The study file: every key it may hold, once, for all verbs, for its template and for editors."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

STEPS = ("measure", "adapt", "analyze", "report")
Step = Literal["measure", "adapt", "analyze", "report"]
SECTIONS = STEPS


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Words = Annotated[list[str], BeforeValidator(_listed)]


def _key(text: str, example: Any, **more: Any) -> Any:
    """Return a key that may be left out; the example is what the template shows, commented out."""
    return Field(None, description=text, examples=[example], **more)


class Part(BaseModel):
    """A table of the file: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Shared(Part):
    """Keys that hold for all steps, and that a step's own table may set differently."""

    models: Words | None = _key(
        "Models: zoo (all shipped ones), zoo:NAME, ViT-B-32/laion2b_s34b_b79k, hf-hub:ORG/NAME, file:PATH?model=ViT-B-32, "
        "random:ViT-B-32?seed=0, or @FILE with one on each line.",
        ["zoo"],
        min_length=1,
    )
    out: str | None = _key("The run folder, from where the command is called.", "runs/study", min_length=1)
    engine: str | None = _key(
        "What runs the units: local (this process), workers:N (N processes) or ray.", "workers:2"
    )
    seed: int | None = _key("Seed of everything drawn.", 0, ge=0)
    device: str | None = _key("cpu, cuda, cuda:0, ...", "cpu")
    precision: Literal["fp32", "fp16", "bf16"] | None = _key("fp32; fp16 or bf16 on a GPU.", "fp32")
    max_bad: float | None = _key("Share of unreadable images above which a step stops.", 0.01, ge=0, le=1)
    reference: str | None = _key("Model whose space @reference views use (default: the first).", "zoo:vit-50")


class Measure(Shared):
    """[measure]: bias of the models as they are. What is left out is as tasks/measure.toml says."""

    image_set: str | None = _key(
        "An embedded image set, or KIND:TABLE?images=DIR&attributes=a,b for your own.", "world-people"
    )
    probe: str | None = _key("Probe set put to the images.", "roles")
    attributes: Words | None = _key("Perceived attributes (default: all of the image set).", ["gender"])
    metrics: Words | None = _key("Metrics by name.", ["max_skew", "ndkl"])
    views: Words | None = _key(
        "global, COLUMN, COLUMN=LEVEL, kmeans[:K][@reference], text:QUERY@N, where:PREDICATE.",
        ["global", "context", "kmeans:4"],
    )
    k: float | None = _key("Length of the ranked list: images, or a share of the view below 1.", 0.1, gt=0)
    truth: str | None = _key("Column that holds the concept an image shows; allows zero-shot recall.", "role")
    caption: str | None = _key("Column of captions that name no attribute; allows retrieval.", "caption")


class Adapt(Shared):
    """[adapt]: the models become VQA models and captioners. What is left out is as tasks/vqa.toml and tasks/captioning.toml say."""

    engine: str | None = _key("As above, or auto: one process for each core.", "auto")
    task: Words | None = _key("vqa, captioning (default: both).", ["vqa", "captioning"])
    head: Words | None = _key("Heads by name, or TASK=HEAD.", ["vqa=answers", "captioning=decoder"])
    mode: Words | None = _key("What of the vision tower is trained: frozen, lora, full.", ["frozen"])
    intervention: Words | None = _key("Run beside plain training: NAME or NAME:key=value,...", ["reweight"])
    twins: bool | None = _key("Run the plain and the null twin of each intervention, too.", True)
    seeds: list[Annotated[int, Field(ge=0)]] | None = _key(
        "Training seeds (default: seed).", [0], min_length=1
    )
    controls: bool | None = _key("Train the first two models with a second seed too.", True)
    blind: bool | None = _key("Train the image-blind baseline that competence is judged by.", True)
    quick: bool | None = _key("A few models only, frozen towers.", False)
    captions: str | None = _key(
        "Real data: COCO captions, a Karpathy split, or Flickr30k.", "captions_train2014.json"
    )
    questions: str | None = _key("Real data: questions of VQAv2, OK-VQA, A-OKVQA or GQA.", "questions.json")
    annotations: str | None = _key("Real data: their answers.", "annotations.json")
    images: str | None = _key("Real data: folder of the images.", "train2014")
    labels: str | None = _key(
        "Real data: CSV of image_id and attributes (default: inferred from captions).", "labels.csv"
    )
    words: str | None = _key("Word list that genders are inferred with.", "hendricks2018")
    n_train: int | None = _key("Training images.", 4000, ge=1)
    steps: int | None = _key("Training steps; not together with epochs.", 400, ge=1)
    epochs: float | None = _key("Passes over the training examples; not together with steps.", 5.0, gt=0)
    views: Words | None = _key("Views, as in [measure].", ["global", "context"])


class Analyze(Part):
    """[analyze]: does bias transfer, do the spaces converge, how sure."""

    questions: Words | None = _key("Files of analysis/, without .toml (default: all).", ["transfer"])
    device: str | None = _key("Where similarity is computed.", "cpu")
    seed: int | None = _key("Seed of permutations and resamples.", 0, ge=0)


class Report(Part):
    """[report]: one self-contained page."""

    title: str | None = _key("Heading of the page.", "Bias report")
    html: str | None = _key("The page (default: report.html in the run folder).", "audit.html", min_length=1)


class Study(Shared):
    """A study: measure, adapt, analyze, report."""

    steps: Annotated[list[Step], Field(min_length=1)] = Field(
        ["measure", "adapt", "analyze", "report"],
        description="What `clipbias study run` does, in this order.",
        examples=[list(STEPS)],
    )  # type: ignore[assignment]
    measure: Measure = Measure()
    adapt: Adapt = Adapt()
    analyze: Analyze = Analyze()
    report: Report = Report()

    def options(self, verb: str) -> dict[str, Any]:
        """Return what the file sets for a verb: the keys above all tables, then those of its own table.

        Parameters
        ----------
        verb : {"measure", "adapt", "analyze", "report"}
        """
        own: Part = getattr(self, verb)
        shared = {name: getattr(self, name) for name in Shared.model_fields if name in type(own).model_fields}
        return {k: v for part in (shared, own.model_dump()) for k, v in part.items() if v is not None}

    @property
    def folder(self) -> str:
        """The run folder of all steps."""
        return self.out or self.measure.out or self.adapt.out or "runs/default"
