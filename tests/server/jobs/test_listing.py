"""The list of models: true to the configuration, and readable by every service's clients."""

import pytest

from server.jobs.catalog import Catalog
from server.jobs.listing import RATIOS, listed, mapping, traits
from server.settings.tables import Config

TABLES = [
    {"id": "both", "family": "toy", "native": ["64x64"], "steps": 7, "steps_range": [2, 9]},
    {"id": "paints", "family": "toy", "native": ["96x64"], "tasks": ["generate"]},
    {"id": "mends", "family": "toy", "native": ["64x64"], "tasks": ["inpaint"], "max_inputs": 3},
]
CATALOG = Catalog.of(
    Config.model_validate({"model": TABLES, "alias": [{"model": "both", "names": ["dall-e-3"]}]})
)


def document(kind: str = "all"):
    return listed(CATALOG, 5, prompt_chars=777, kind=kind)


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("all", ["both", "paints", "mends"]),
        ("image", ["both", "paints"]),
        ("inpaint", ["both", "mends"]),
        ("upscale", []),
        ("music", []),
    ],
)
def test_a_type_lists_what_is_of_it(kind: str, names: list[str]) -> None:
    rows = document(kind)["data"]
    assert [row["id"] for row in rows] == names
    assert kind == "all" or {row["type"] for row in rows} <= {kind}


def test_what_a_model_takes_is_said() -> None:
    both, _, mends = document()["data"]
    said = both["limner"]
    assert (said["steps"], said["steps_range"], said["prompt_chars"]) == (7, [2, 9], 777)
    assert said["aliases"] == ["dall-e-3"]
    assert said["default_size"] == "64x64"
    assert mends["limner"]["tasks"] == ["inpaint"]
    assert mends["model_spec"]["constraints"]["maxInputImages"] == 3
    assert both["model_spec"]["constraints"]["steps"] == {"default": 7, "max": 9}


def test_rows_have_the_keys_that_clients_require() -> None:
    for row in document()["data"]:
        assert {"id", "object", "created", "owned_by"} <= row.keys()  # OpenAI
        assert {"type", "model_spec"} <= row.keys()  # Venice
        assert {"name", "display_name", "providers", "architecture"} <= row.keys()  # AIMO
        spec = row["model_spec"]
        assert {"privacy", "pricing", "constraints"} <= spec.keys()
        assert spec["constraints"]["promptCharacterLimit"] == 777
        pricing = spec["pricing"]
        assert pricing.keys() & {"generation", "inpaint"}
        assert pricing["resolutions"].keys() == pricing["quality"].keys() == {"1K", "2K", "4K"}
        for grades in pricing["quality"].values():
            assert grades.keys() == {"low", "medium", "high"}
            assert all(price == {"usd": 0.0, "diem": 0.0} for price in grades.values())
    for model in document()["models"]:  # Depicta
        assert {"id", "name", "can_generate", "can_edit", "image_sizes"} <= model.keys()
        assert isinstance(model["approximate_cost_eur"], str)
    assert [model["can_edit"] for model in document()["models"]] == [True, False, True]


def test_the_default_shape_is_one_that_clients_know() -> None:
    paints = document("image")["data"][1]
    assert paints["model_spec"]["constraints"]["defaultAspectRatio"] == "3:2"
    assert set(RATIOS) >= {"1:1", "16:9"}


def test_traits_are_those_of_the_type() -> None:
    tables = [
        {"id": "first", "family": "toy", "native": ["96x96"], "steps": 9},
        {"id": "quick", "family": "toy", "native": ["64x64"], "steps": 2, "tasks": ["generate"]},
        {"id": "large", "family": "toy", "native": ["64x64", "256x64"], "steps": 30},
    ]
    catalog = Catalog.of(Config.model_validate({"model": tables}))
    image = {"default": "first", "fastest": "quick", "highest_quality": "large"}
    assert traits(catalog, "all") == traits(catalog, "image") == image
    assert traits(catalog, "inpaint") == image | {"fastest": "first"}
    assert traits(catalog, "music") == {}
    rows = listed(catalog, 5, prompt_chars=9, kind="inpaint")["data"]
    said = {row["id"]: row["model_spec"]["traits"] for row in rows}
    assert said == {"first": ["default", "fastest"], "large": ["highest_quality"]}


def test_aliases_are_mapped() -> None:
    assert mapping(CATALOG, "all") == mapping(CATALOG, "inpaint") == {"dall-e-3": "both"}
    assert mapping(CATALOG, "text") == {}
