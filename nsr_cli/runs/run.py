"""Request: everything about a run that does not affect its numbers. Run: a Spec and a Request, with their files."""

from collections import Counter
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path

from nsr_cli.data.identity import data_name
from nsr_cli.data.pairs import low_resolution_paths, lr_folder
from nsr_cli.engine.conventions import Convention
from nsr_cli.errors import UserError
from nsr_cli.names import source_digests
from nsr_cli.runs.spec import Spec, spec_of
from nsr_cli.tasks import Task, task_of


@dataclass(frozen=True)
class Request:
    """What is asked of a run, and its folders; the help of each key says more (nsr_cli/commands/knobs.py).

    Attributes:
        benchmarks: data sets or folders to score on.
        metrics: scored beside the metrics of the benchmarks' conventions.
        train: the training images, as the user named them.
        may_train: whether the verb trains; ``nsr eval`` does not.
        ckpt: file of the weights; None for weights trained here.
        published: whether ``ckpt`` must be the published file.
        init: file of the weights that a training starts from; None for random weights.
    """

    benchmarks: list[str]
    data: str = "data"
    results: str = "results"
    metrics: list[str] = field(default_factory=list)
    train: str = ""
    may_train: bool = True
    ckpt: str | None = None
    published: bool = False
    init: str | None = None
    device: str = "auto"
    threads: int | None = None
    checkpoint_minutes: float = 5
    validate_every: int = 500
    tensorboard: bool = False
    wandb: bool = False
    mlflow: bool = False
    compile: bool = False
    deterministic: bool = False
    wait: bool = True
    weights: bool = False
    rescore: bool = False
    save_images: bool = False
    explain: bool = False
    dry_run: bool = False

    @property
    def asks_for_more(self) -> bool:
        """Whether complete records are not enough."""
        return any((self.rescore, self.explain, self.save_images, self.weights))


REQUEST_KEYS = [item.name for item in fields(Request)]


@dataclass(frozen=True)
class Run:
    """A run: its Spec, and what is asked of it."""

    spec: Spec
    request: Request

    @cached_property
    def task(self) -> Task:
        """The task of the Spec."""
        return task_of(self.spec.task)

    @property
    def reads(self) -> list[str]:
        """Kinds of input images of the method: rgb, luma, grey."""
        return self.spec.model.reads

    @cached_property
    def own_code(self) -> dict[str, str]:
        """The digest of each module of the user's own that decides the run's numbers, by its name."""
        spec = self.spec
        return source_digests([spec.model.target, spec.task["target"], spec.sparsity["gate"], *self.request.metrics])

    @property
    def code_file(self) -> Path:
        """The file of ``own_code`` when the training began."""
        return self.folder / "code.json"

    @property
    def name(self) -> str:
        """The name of the run's folder: that of the Spec that trained the weights."""
        return self.spec.weights_spec.name

    @property
    def data(self) -> Path:
        """The folder of data sets."""
        return Path(self.request.data)

    @property
    def folder(self) -> Path:
        """The folder of weights, checkpoints and logs."""
        return Path(self.request.results) / "runs" / self.name

    @property
    def weights(self) -> Path:
        """The file of the trained weights."""
        return self.folder / "weights.pt"

    @property
    def records(self) -> Path:
        """The folder of the records of all runs of the same budget."""
        return Path(self.request.results) / "records" / self.spec.budget

    def record(self, benchmark: str) -> Path:
        """The file of a benchmark's record, which need not exist."""
        return self.records / f"{self.spec.name}--{self.data_name(benchmark)}.json"

    def data_name(self, benchmark: str) -> str:
        """The name of a benchmark in records and file names."""
        return data_name(benchmark, self.data, self.task.scale)

    def task_on(self, data: str, paths: list[Path]) -> Task:
        """The task on a data set, with its low-resolution partners, if any. Raises UserError for a bad partner."""
        if lr_folder(data, self.data, self.task.scale) is None:
            return self.task
        partners = low_resolution_paths(data, paths, self.data, self.task.scale)
        return self.task.paired(dict(zip(paths, partners, strict=True)))

    def conventions(self, benchmark: str) -> list[Convention]:
        """The conventions by which a benchmark scores the run; the paper's table shows the first."""
        found = self.task.conventions(benchmark, self.reads, self.data)
        more = self.request.metrics
        return [replace(c, metrics=tuple(dict.fromkeys((*c.metrics, *more)))) for c in found] if more else found

    @property
    def trains(self) -> bool:
        """Whether the weights are trained here."""
        return self.spec.training is not None

    @property
    def lacks_weights(self) -> bool:
        """Whether the weights must still be trained."""
        return self.trains and not self.weights.exists()

    def images_folder(self, benchmark: str) -> Path:
        """The folder of restored images."""
        variant = [name for name in (self.spec.inference, self.spec.tiling) if name not in ("soft", "usual")]
        variant += [f"tile{self.spec.tile}"] * bool(self.spec.tile)
        return self.folder / "images" / "-".join([self.data_name(benchmark), *variant])

    def saved_images(self, benchmark: str, paths: list[Path]) -> dict[Path, Path]:
        """The output file of each image; files that share a stem keep their suffix in the output's name."""
        stems = Counter(path.stem for path in paths)
        folder = self.images_folder(benchmark)
        return {path: folder / f"{path.name if stems[path.stem] > 1 else path.stem}.png" for path in paths}

    def with_request(self, **changes) -> "Run":
        """The same run with changes to its Request."""
        return replace(self, request=replace(self.request, **changes))

    def with_seed(self, seed: int) -> "Run":
        """The same run with another seed of its training."""
        return replace(self, spec=self.spec.with_seed(seed))

    def to_json(self) -> dict:
        return {"spec": self.spec.content, "request": asdict(self.request)}


def run_of(content: dict) -> Run:
    """The Run from the content that ``to_json`` made."""
    return Run(spec_of(content["spec"]), Request(**content["request"]))


def check_share(run: Run, processes: int) -> None:
    """Raise UserError unless a batch can be cut into as many equal shares as there are processes."""
    if run.trains and run.spec.training.batch % processes:
        batch = run.spec.training.batch
        raise UserError(f"batch={batch}: expected a multiple of {processes}, the processes that share it")
