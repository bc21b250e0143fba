"""What is compiled paints the same, and nothing is compiled while somebody waits.

Tracing is torch's own; but for one test a backend that counts stands in for its compiler, which
takes minutes on a small machine.
"""

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from torch._dynamo import eval_frame

from models import compilation, host, tuning
from models.checkpoint import Checkpoint
from models.compilation import REGIONS, bare_only, in_regions, seal, unsealed
from models.contract import LoraSpec, ModelSpec, Tuning, WorkerSpec
from models.merge import Forward, plainly
from models.shell import denoiser_name
from models.warmup import rehearse
from tests.models.sitter import Run, Sitter, close, load
from tests.models.stock import FAMILY_OF, HEIGHT, STOCK, WIDTH, job
from tests.models.test_lora import trained

CPU = torch.device("cpu")
COMPILED = {"compile": True}


@pytest.fixture(autouse=True)
def afresh() -> Iterator[None]:
    """What is compiled, and whether anything may be, is the process's."""
    torch._dynamo.reset()
    yield
    torch.compiler.set_stance("default")
    torch._dynamo.reset()


class Backend:
    """Compiles nothing; counts graphs, and how often each of them is run."""

    def __init__(self) -> None:
        self.graphs = 0
        self.runs = 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: Any) -> Callable[..., Any]:
        self.graphs += 1

        def run(*arguments: Any) -> Any:
            self.runs += 1
            return graph.forward(*arguments)

        return run

    def of(self, work: Callable[[], object]) -> tuple[int, int]:
        """How many graphs a work brings, and how often any is run in it."""
        before = self.graphs, self.runs
        work()
        return self.graphs - before[0], self.runs - before[1]


def spec_of(name: str, folder: Path, **said: Any) -> ModelSpec:
    told = {"id": "tiny", "family": FAMILY_OF[name], "path": str(folder), "max_batch": 2}
    return ModelSpec(**(told | {"width": WIDTH, "height": HEIGHT} | said))


def parts_of(model: Checkpoint) -> tuple[Any, Any]:
    return getattr(model.pipe, denoiser_name(model.pipe)), model.pipe.vae.decoder


def compiled(name: str, folder: Path, backend: Backend, **said: Any) -> Checkpoint:
    """A model of which all is compiled that will be."""
    model = replace(load(name, folder, **said), way=bare_only(plainly))
    in_regions(*parts_of(model), backend=backend)
    with unsealed(lambda: None):
        rehearse(model, spec_of(name, folder, tuning=Tuning(compile=True)))
    seal()
    return model


def painted(model: Checkpoint, *jobs: Any) -> dict[str, np.ndarray[Any, Any]]:
    run = Run(model)
    for asked in jobs:
        run.start(asked)
    run.finish()
    return {asked.id: run.pixels(asked.id) for asked in jobs}


def shape(name: str, **said: Any) -> Any:
    return job(name, "generate", **({"negative_prompt": "", "steps": 2} | said))


@pytest.mark.timeout(400)  # torch traces a second for each part, on an idle machine
@pytest.mark.parametrize("name", [pytest.param("sd", marks=pytest.mark.long), "flux"])
def test_compiled_paints_the_same_and_nothing_is_compiled_late(
    folder_of: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    folder, backend = folder_of(name), Backend()
    kind = type(diffusers.DiffusionPipeline.from_pretrained(folder))
    trained(folder, kind, 0, tmp_path / "a.safetensors")
    loras = (LoraSpec("a", str(tmp_path / "a.safetensors")),)
    eager, model = load(name, folder, loras=loras), compiled(name, folder, backend, loras=loras)
    known = backend.graphs
    owl, fox = shape("owl", guidance=4.0), shape("fox", guidance=2.0, seeds=(3,), steps=3)

    # Alone, in company, at a guidance of one and worn by nobody: as without compiling.
    alone = painted(eager, owl) | painted(eager, fox)
    runs = backend.of(lambda: close(painted(model, owl)["owl"], alone["owl"]))
    assert runs[1] > 0
    together = painted(model, owl, fox)
    for asked in ("owl", "fox"):
        close(together[asked], alone[asked])

    # An adapter comes, changes its weight and goes.
    for weight in (1.0, 0.5):
        worn = shape("owl", guidance=4.0, loras=(("a", weight),))
        pictures = painted(model, worn)["owl"]
        close(pictures, painted(eager, worn)["owl"])
        assert (pictures != alone["owl"]).any()
    assert backend.of(lambda: close(painted(model, owl)["owl"], alone["owl"])) == runs

    # Sizes that were not tried ahead.
    for width, height in ((WIDTH + 32, HEIGHT), (HEIGHT, WIDTH), (HEIGHT, HEIGHT)):
        other = shape("owl", guidance=4.0, width=width, height=height)
        pixels = [
            np.frombuffer(m.paint(other, 0, [], None, Sitter()).pixels, np.uint8)
            for m in (model, eager)
        ]
        close(*pixels)
    assert backend.graphs == known


@pytest.mark.parametrize("name", list(STOCK))
def test_every_family_has_parts_that_are_compiled(
    folder_of: Callable[[str], Path], name: str
) -> None:
    denoiser, decoder = parts_of(load(name, folder_of(name)))
    kinds = Counter(type(part).__name__ for part in denoiser.modules())
    regions = REGIONS[type(denoiser).__name__]
    assert all(kinds[kind] for kind in regions)
    assert in_regions(denoiser, decoder) == sum(kinds[kind] for kind in regions) + 1
    assert not any(parameter.requires_grad for parameter in denoiser.parameters())


def test_what_diffusers_knows_of_a_network_serves_where_we_know_nothing() -> None:
    class Block(torch.nn.Linear):
        pass

    class Known(torch.nn.Sequential):
        _repeated_blocks = ("Block",)

    assert in_regions(Known(Block(1, 1), Block(1, 1)), torch.nn.ReLU()) == 2 + 1
    assert in_regions(torch.nn.Sequential(Block(1, 1)), torch.nn.ReLU()) == 1


@pytest.mark.parametrize(
    ("said", "expected"),
    [({}, False), (COMPILED, True), (COMPILED | {"graphs": True}, True)],
)
def test_a_model_is_compiled_only_if_asked(
    folder_of: Callable[[str], Path], said: Any, expected: bool
) -> None:
    model = load("sd", folder_of("sd"))
    before = model.pipe.unet.mid_block.resnets[0]._compiled_call_impl
    way = tuning.tuned(model.pipe, spec_of("sd", folder_of("sd"), tuning=Tuning(**said)), CPU)
    assert before is None
    stances: list[str] = []
    forced = Forward(lambda: stances.append(eval_frame._stance.stance), {}, None, (("a", 1.0),))
    way(forced)
    assert stances == ["force_eager" if expected else "default"]
    parts = (model.pipe.unet.mid_block.resnets[0], model.pipe.vae.decoder)
    assert all((part._compiled_call_impl is not None) == expected for part in parts)


def test_what_travels_is_not_compiled(folder_of: Callable[[str], Path]) -> None:
    spec = spec_of("sd", folder_of("sd"), offload="all", tuning=Tuning(compile=True))
    assert tuning.tuned(load("sd", folder_of("sd")).pipe, spec, CPU) is plainly


class Network(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1


def small(backend: Backend) -> torch.nn.Module:
    """Compiled anew for every shape."""
    network = Network()
    network.compile(dynamic=False, fullgraph=True, backend=backend)
    return network


def test_sealed_nothing_new_is_compiled_and_what_was_is_used() -> None:
    backend = Backend()
    network = small(backend)
    network(torch.ones(1, 2))
    seal()
    assert backend.of(lambda: network(torch.ones(1, 2))) == (0, 1)
    assert backend.of(lambda: network(torch.ones(3, 2))) == (0, 0)
    pulses: list[int] = []
    with unsealed(lambda: pulses.append(1)):
        assert backend.of(lambda: network(torch.ones(3, 2))) == (1, 1)
    assert pulses == [1]
    assert backend.of(lambda: network(torch.ones(4, 2))) == (0, 0)
    assert pulses == [1]


def test_adapters_are_never_compiled() -> None:
    backend = Backend()
    network, way = small(backend), bare_only(plainly)
    forward = Forward(network, {"x": torch.ones(1, 2)}, worn=(("a", 1.0),))
    assert backend.of(lambda: way(forward)) == (0, 0)
    assert backend.of(lambda: way(replace(forward, worn=()))) == (1, 1)


def test_what_is_compiled_late_is_counted(folder_of: Callable[[str], Path]) -> None:
    spec = spec_of("sd", folder_of("sd"), tuning=Tuning(compile=True))
    worker = WorkerSpec(name="cpu", device="cpu", models=(spec,))
    counted = host.Compilations(worker)
    network = small(Backend())
    with counted.of(spec, lambda: None) as here:
        network(torch.ones(1, 2))
        assert here() == 1
    network(torch.ones(2, 2))  # sealed
    assert counted.late() == 0
    torch.compiler.set_stance("default")
    network(torch.ones(2, 2))
    assert counted.late() == 1


def test_a_worker_that_compiles_nothing_leaves_torch_as_it_is(
    folder_of: Callable[[str], Path],
) -> None:
    spec = spec_of("sd", folder_of("sd"))
    counted = host.Compilations(WorkerSpec(name="cpu", device="cpu", models=(spec,)))
    backend = Backend()
    assert backend.of(lambda: small(backend)(torch.ones(1, 2))) == (1, 1)
    with counted.of(spec, lambda: None) as here:
        small(backend)(torch.ones(1, 2))
        assert here() == 0
    assert counted.late() == 0


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, of its own
@pytest.mark.skipif(not shutil.which("g++"), reason="torch's compiler needs one of C++")
def test_the_compiler_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one block, with two sizes and rows; the second is what the first was compiled for."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))

    class Block(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.linear = torch.nn.LayerNorm(8), torch.nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.nn.functional.gelu(self.linear(self.norm(x)))

    class Known(torch.nn.Sequential):
        _repeated_blocks = ("Block",)

    torch.manual_seed(0)
    network = Known(Block(), Block())
    twin = Known(Block(), Block())
    twin.load_state_dict(network.state_dict())
    in_regions(network, torch.nn.Identity())
    before = compilation.compiled()
    with torch.no_grad():
        for rows, length in ((2, 6), (3, 10)):
            seen = torch.randn(rows, length, 8)
            assert torch.allclose(network(seen), twin(seen), atol=1e-5)
    assert compilation.compiled() == before + 1
    assert any(tmp_path.rglob("*.so"))
