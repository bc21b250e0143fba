"""A network makes pictures larger: whatever file it came from, in tiles or at once."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from spandrel.architectures.Compact import Compact

from models import enlarging, families, host
from models.canvas import Unloadable
from models.checkpoint import Checkpoint
from models.contract import Finished, Image, Job, ModelSpec
from models.enlarging import Enlarger, in_tiles
from models.studio import Studio
from tests.models.stock import HEIGHT, WIDTH

CPU = torch.device("cpu")
DEPTH = 3  # layers between the first and the last: nothing sees further than DEPTH + 2 pixels


def network(scale: int = 2, *, plain: bool = False) -> Compact:
    """A small random network; a plain one only repeats pixels."""
    torch.manual_seed(0)
    made = Compact(num_feat=6, num_conv=DEPTH, upscale=scale)
    if plain:
        last = list(made.parameters())[-2:]
        for part in last:
            torch.nn.init.zeros_(part)
    return made.eval()


def file_of(folder: Path, made: Compact) -> Path:
    path = folder / "enlarger.safetensors"
    save_file({name: part.half().contiguous() for name, part in made.state_dict().items()}, path)
    return path


@pytest.fixture
def plain(tmp_path: Path) -> Enlarger:
    return Enlarger.load(file_of(tmp_path, network(3, plain=True)), CPU)


def test_convolutions_are_laid_out_for_speed_and_give_the_same(tmp_path: Path) -> None:
    made, pictures = network(), torch.rand(2, 3, 24, 40)
    found = Enlarger.load(file_of(tmp_path, made), CPU)
    weights = [part for part in found.network.parameters() if part.ndim == 4]
    assert weights
    assert all(part.is_contiguous(memory_format=torch.channels_last) for part in weights)
    with torch.no_grad():
        expected = made.half().float()(pictures).clamp(0, 1)
        assert torch.allclose(found.run(pictures), expected, atol=1e-5)


def job(name: str, **changes: object) -> Job:
    said: dict[str, object] = {"id": name, "model": "tiny", "task": "generate", "prompt": "an owl"}
    said |= {"width": WIDTH, "height": HEIGHT, "steps": 3, "guidance": 2.0, "seeds": (1,)}
    return Job(**(said | changes))


def painted(model: object, *jobs: Job) -> dict[str, Image]:
    events: list[object] = []
    studio = Studio(events.append)
    studio.cap("tiny", "enlarge", 4)
    for each in jobs:
        studio.start(model, each, 0, (), None)
    while len(studio):
        studio.tick()
    images = {event.job: event.image for event in events if isinstance(event, Finished)}
    assert len(images) == len(jobs), events
    return images


def array(image: Image) -> np.ndarray:
    return np.frombuffer(image.pixels, np.uint8).reshape(image.height, image.width, 3)


def loaded(family: str, folder: Path, **said: str) -> Any:
    spec = ModelSpec(id="tiny", family=family, path=str(folder), width=8, height=8, **said)
    return families.loader(family)(spec, "cpu")


@pytest.mark.parametrize("family", ["sdxl", "generic"])
def test_only_what_is_asked_for_is_enlarged(
    family: str, folder_of: Callable[[str], Path], tmp_path: Path
) -> None:
    path, folder = file_of(tmp_path, network(3, plain=True)), folder_of("sdxl")
    model = loaded(family, folder, enlarger=str(path))
    large = job("large", enlarge=True)
    images = painted(model, job("as painted"), large, job("more", enlarge=True))
    small = array(images["as painted"])
    assert small.shape == (HEIGHT, WIDTH, 3)
    expected = small.repeat(3, axis=0).repeat(3, axis=1)
    assert np.array_equal(array(images["large"]), expected)
    assert images["large"] == images["more"]  # which were enlarged together
    assert model.size == loaded(family, folder).size + size_of(network(3))


def size_of(made: Compact) -> int:
    return sum(part.numel() * 4 for part in made.parameters())


def test_a_model_without_one_paints_as_ever(model_of: Callable[[str], Checkpoint]) -> None:
    images = painted(model_of("sd"), job("plain"), job("asked", enlarge=True))
    assert images["plain"] == images["asked"]


def test_where_there_is_no_room_the_picture_comes_as_it_was_painted(
    folder_of: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = loaded("sdxl", folder_of("sdxl"), enlarger=str(file_of(tmp_path, network(2))))

    def full(self: Enlarger, pictures: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(Enlarger, "run", full)
    events: list[object] = []
    studio = Studio(events.append)
    studio.start(model, job("owl", enlarge=True), 0, (), None)
    while len(studio):
        studio.tick()
    (end,) = [event for event in events if isinstance(event, Finished)]
    assert (end.image.width, end.image.height) == (WIDTH, HEIGHT)
    assert end.notes == ("image: not enlarged by the network for want of memory",)


def test_what_it_will_take_is_known_ahead(folder_of: Callable[[str], Path], tmp_path: Path) -> None:
    told = {"id": "m", "family": "sd", "path": str(folder_of("sd")), "width": 8, "height": 8}
    plain, more = ModelSpec(**told), ModelSpec(**told, enlarger=str(file_of(tmp_path, network())))
    apart = host.expected(more, "cpu") - host.expected(plain, "cpu")
    assert apart == size_of(network())


def test_it_computes_what_the_file_says(tmp_path: Path) -> None:
    made = network()
    enlarger = Enlarger.load(file_of(tmp_path, made), CPU)
    picture = torch.rand(2, 3, 20, 31)
    with torch.no_grad():
        expected = made.half().float()(picture).clamp(0, 1)
        assert torch.equal(enlarger.run(picture), expected)
    assert (enlarger.scale, expected.shape) == (2, (2, 3, 40, 62))


@pytest.mark.parametrize("size", [(70, 45), (33, 64), (32, 33), (100, 100)])
def test_tiles_give_what_the_whole_gives(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    monkeypatch.setattr(enlarging, "TILE", 32)
    made, picture = network(), torch.rand(1, 3, *size)
    with torch.no_grad():
        whole, tiled = made(picture), in_tiles(made, picture, 2)
    edge = 2 * (DEPTH + 2)  # beyond the picture the one sees black, and the other more of the same
    inside = (..., slice(edge, -edge), slice(edge, -edge))
    assert tiled.shape == whole.shape
    assert torch.allclose(tiled[inside], whole[inside], atol=1e-6)


def test_pictures_stay_in_their_range(tmp_path: Path) -> None:
    made = network(plain=True)
    torch.nn.init.constant_(list(made.parameters())[-1], 5.0)
    enlarger = Enlarger.load(file_of(tmp_path, made), CPU)
    assert torch.equal(enlarger.run(torch.rand(1, 3, 8, 8)), torch.ones(1, 3, 16, 16))


def test_other_files_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "enlarger.safetensors"
    with pytest.raises(Unloadable, match=r"enlarger .*: "):
        Enlarger.load(file, CPU)
    file.write_bytes(b"no safetensors")
    with pytest.raises(Unloadable, match=r"enlarger .*: "):
        Enlarger.load(file, CPU)
    save_file({"what": torch.ones(3)}, file)
    with pytest.raises(Unloadable, match="UnsupportedModelError"):
        Enlarger.load(file, CPU)
    with pytest.raises(Unloadable, match=r"does not enlarge$"):
        Enlarger.load(file_of(tmp_path, network(1)), CPU)
    grey = Compact(num_in_ch=1, num_out_ch=1, num_feat=6, num_conv=2, upscale=2)
    with pytest.raises(Unloadable, match="does not enlarge colours"):
        Enlarger.load(file_of(tmp_path, grey), CPU)
