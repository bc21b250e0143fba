"""What is installed is what was tried: a wheel holds the code, the configurations, the models."""

import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path_factory.mktemp("wheel")))
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_every_configuration(names: set[str]) -> None:
    ours = {f"server/configs/{path.name}" for path in (ROOT / "configs").iterdir()}
    assert ours <= names


@pytest.mark.parametrize("model", ["sketch", "sketch-flux"])
def test_the_wheel_holds_the_shipped_models(names: set[str], model: str) -> None:
    folder = ROOT / "models" / "demo" / model
    files = {str(path.relative_to(ROOT)) for path in folder.rglob("*") if path.is_file()}
    assert f"models/demo/{model}/model_index.json" in files
    assert files <= names


def test_the_wheel_holds_nothing_else(names: set[str]) -> None:
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"server", "models"}
