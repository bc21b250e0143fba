"""What a server and a worker say to each other, as frozen values.

The narrow waist of limner: a `Job` is absolute and right by construction (intake made it so), an
`Event` is a fact. Knows nothing of torch, of HTTP, or of how the messages travel (`wire`).
"""

from typing import Literal, TypeAlias

import msgspec

Task: TypeAlias = Literal["generate", "edit", "inpaint"]
Dtype: TypeAlias = Literal["auto", "float32", "bfloat16", "float16"]
Offload: TypeAlias = Literal["none", "text", "all"]  # what lies in the machine's memory
FaultKind: TypeAlias = Literal[
    "bad_job",  # the family refused what it was asked; intake should have
    "load_failed",  # the model could not be read, or failed its audit
    "not_configured",  # this kind of work is not set up on this worker
    "not_finite",  # NaN or infinity instead of pixels
    "out_of_memory",  # even alone
    "worker_died",  # the process is gone; said by the server, never by a worker
    "internal",  # anything else
]

# Noise schedules of the families that let one be chosen.
SCHEDULERS = (
    "ddim",
    "dpmpp_2m",
    "dpmpp_2m_karras",
    "euler",
    "euler_karras",
    "euler_ancestral",
    "lcm",
)
CHANNELS = {"L": 1, "RGB": 3}


class Value(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A frozen, strictly decoded value."""


class Image(Value, frozen=True):
    """Raw 8-bit pixels by rows from the top left: `RGB` interleaved, or `L` (mask: 255 = repaint).

    Raises:
        ValueError: the number of bytes does not fit the size and mode.
    """

    width: int
    height: int
    mode: Literal["RGB", "L"]
    pixels: bytes

    def __post_init__(self) -> None:
        if len(self.pixels) != self.width * self.height * CHANNELS[self.mode]:
            raise ValueError(
                f"{len(self.pixels)} bytes are no {self.width}×{self.height} {self.mode} image"
            )


class LoraSpec(Value, frozen=True):
    """A low-rank adapter that a model may wear."""

    name: str
    path: str  # a .safetensors file


class Tuning(Value, frozen=True, kw_only=True):
    """What is done so that a model's networks run faster than they come."""

    compile: bool = False  # the denoiser's repeated blocks and the decoder; changes rounding
    graphs: bool = False  # replay small forwards on a GPU instead of launching their kernels
    # What is faster and not the same; pictures are labelled.
    fp8: bool = False  # the transformer's large layers in 8 bits; on GPUs that multiply so
    step_cache: float = 0.0  # skip blocks when the first one does nearly the same again; 0: never
    step_forecast: int = 0  # run the denoiser in one step of so many; 0 or 1: in each


class ModelSpec(Value, frozen=True, kw_only=True):
    """What a worker must know to load a model: a `[[model]]` table without the server's part."""

    id: str
    family: str
    path: str = ""  # a diffusers folder or single file; empty for a family without weights
    base: str = ""  # of a single file: the diffusers folder of what it lacks
    preview: str = ""  # the folder of an AutoencoderTiny; empty: linear factors
    enlarger: str = ""  # the file of a super-resolution network; empty: none
    dtype: Dtype = "auto"
    scheduler: str = ""  # one of SCHEDULERS; empty: as the folder says
    width: int  # paint size of the first warm-up picture, px
    height: int
    buckets: tuple[tuple[int, int], ...] = ()  # width and height of others that are tried ahead
    max_batch: int = 4  # canvases per forward at the most
    offload: Offload = "none"
    tuning: Tuning = Tuning()
    preload: bool = True  # load it before the worker is ready
    pinned: bool = False  # never give it up for another
    loras: tuple[LoraSpec, ...] = ()
    # Checkpoints that it is made of, each with a file that says what its weights are to be.
    manifests: tuple[tuple[str, str], ...] = ()
    keep_seconds: float = 0.0  # give it up after so long without use; 0: only for another


class WorkerSpec(Value, frozen=True, kw_only=True):
    """How a worker process is to be set up."""

    name: str
    device: str  # "cpu", "cuda:0", …
    threads: int = 0  # intra-op CPU threads; 0 leaves the choice to torch
    memory: int = 0  # bytes for the weights of all models; 0: most of what the device has
    models: tuple[ModelSpec, ...]


class Job(Value, frozen=True, kw_only=True):
    """All that is needed to paint `len(seeds)` images; image i is drawn from `seeds[i]` alone."""

    id: str
    model: str
    task: Task
    prompt: str
    negative_prompt: str = ""
    width: int  # paint size, px
    height: int
    steps: int
    guidance: float
    strength: float = (
        1.0  # 0 < strength ≤ 1; how much of the noise schedule an input image goes through
    )
    scheduler: str = ""  # empty: the model's own
    seeds: tuple[int, ...]  # each 0 … 2³¹−1
    inputs: int = 0  # attached images; the first is the base
    masked: bool = False  # a mask is attached
    preview_every: int = 0  # steps between previews; 0: none
    loras: tuple[tuple[str, float], ...] = ()  # name and weight of the adapters to wear
    enlarge: bool = False  # have the model's enlarger make the picture larger, if it has one
    strict: bool = False  # never share a forward, so that bits do not depend on neighbours


# -- Work: what a server asks of a worker ---------------------------------------------------------


class Command(Value, frozen=True, tag=True):
    """Server → worker."""


class Attach(Command, frozen=True):
    """An input image of a job, sent once per worker and ahead of its first canvas."""

    job: str
    index: int  # position among the inputs; ignored for the mask
    role: Literal["input", "mask"]
    image: Image


class Paint(Command, frozen=True):
    """Paint one canvas: image `index` of the job."""

    job: Job
    index: int


class Enlarge(Command, frozen=True):
    """Super-resolution of the attached image."""

    job: str
    scale: float


class Cutout(Command, frozen=True):
    """Remove the background of the attached image."""

    job: str


class Judge(Command, frozen=True):
    """Score the attached image with the safety classifiers."""

    job: str


class Extend(Command, frozen=True):
    """Rewrite a prompt at more length."""

    job: str
    prompt: str


class Describe(Command, frozen=True):
    """Say what the device is and what is loaded; answered by `Described`."""

    job: str


Work: TypeAlias = Paint | Enlarge | Cutout | Judge | Extend | Describe


class Cancel(Command, frozen=True):
    """Stop a canvas at its next pause; answered by `Cancelled` unless it ended first."""

    job: str
    index: int


class Release(Command, frozen=True):
    """Forget the attachments of a job: no more of its canvases will come."""

    job: str


class Stop(Command, frozen=True):
    """Cancel everything and exit 0."""


AnyCommand: TypeAlias = Attach | Work | Cancel | Release | Stop


# -- Events: what a worker answers ----------------------------------------------------------------


class Event(Value, frozen=True, tag=True):
    """Worker → server."""


class Ready(Event, frozen=True):
    """The process is up and reads commands; models are still to be loaded."""

    device: str


class Loading(Event, frozen=True):
    """A model is being loaded; until that is over, nothing is painted or heard."""

    model: str


class Cap(Value, frozen=True):
    """How many canvases may share a call, as measured: as many as still raise throughput."""

    kind: str  # of call: "forward", "decode" …
    width: int  # of the pictures, px
    height: int
    canvases: int
    seconds: float  # of such a call with one canvas in it


class Loaded(Event, frozen=True):
    """A model is in memory, passed its audit and painted its warm-up pictures."""

    model: str
    tasks: tuple[Task, ...]  # what these weights can do
    seconds: float
    caps: tuple[Cap, ...]
    size: int  # bytes of its weights, as measured
    compiled: int = 0  # graphs, for this loading of it

    @property
    def max_batch(self) -> int:
        """The most canvases that any of its calls may hold."""
        return max((cap.canvases for cap in self.caps), default=1)


class Compiled(Event, frozen=True):
    """So many graphs were compiled since the worker started while no model was being loaded.

    Each kept somebody waiting. There ought to be none.
    """

    graphs: int


class Evicted(Event, frozen=True):
    """A model is in memory no more; the next canvas for it loads it again."""

    model: str


class LoadFailed(Event, frozen=True):
    """A model cannot be served; the others can."""

    model: str
    reason: str


class Room(Event, frozen=True):
    """What is to be loaded ahead is; from now on this many canvases are taken on at once.

    The server subtracts what it has sent itself: a number of free places would be out of date.
    """

    canvases: int


class Step(Event, frozen=True):
    """A canvas finished step `step` of `steps` (from 1), perhaps with a preview of its outcome."""

    job: str
    index: int
    step: int
    steps: int
    preview: Image | None = None


class Finished(Event, frozen=True):
    """A canvas is painted, `seconds` after it started; `notes` say what was not honoured."""

    job: str
    index: int
    image: Image
    seconds: float
    notes: tuple[str, ...] = ()


class Cancelled(Event, frozen=True):
    """A canvas was stopped on request."""

    job: str
    index: int


class Fault(Value, frozen=True):
    """What broke. `detail` is for the log, not for clients."""

    kind: FaultKind
    detail: str = ""


class Failed(Event, frozen=True):
    """A canvas, or other work, ended without a result."""

    job: str
    index: int
    fault: Fault


class Described(Event, frozen=True):
    """The answer to `Describe`."""

    job: str
    device: str
    name: str  # of the hardware
    memory_total: int  # bytes; of the device
    memory_free: int
    models: tuple[str, ...]


AnyEvent: TypeAlias = (
    Ready
    | Loading
    | Loaded
    | Compiled
    | Evicted
    | LoadFailed
    | Room
    | Step
    | Finished
    | Cancelled
    | Failed
    | Described
)
Ending: TypeAlias = Finished | Cancelled | Failed  # every canvas ends in exactly one of these
