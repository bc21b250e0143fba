"""Which adapters a request wears."""

import pytest

from server.errors import BadRequest
from server.jobs.catalog import Catalog
from server.jobs.intake import Draft, Order, resolve
from server.settings.tables import Config, LimitsTable

CATALOG = Catalog.of(
    Config.model_validate(
        {
            "model": [
                {"id": name, "family": "toy", "native": ["64x64"]} for name in ("ann", "bob", "eve")
            ],
            "lora": [
                {"name": "ink", "path": "/ink.safetensors", "model": "ann", "weight": 0.8},
                {"name": "oil", "path": "/oil.safetensors", "model": "ann", "always": True},
                {"name": "ink", "path": "/ink2.safetensors", "model": "bob"},
            ],
            "style": [{"name": "Ink", "prompt": "ink, {prompt}", "lora": "ink"}],
        }
    )
)


def order(model: str = "ann", prompt: str = "an owl", **draft: object) -> Order:
    return resolve(
        Draft(dialect="cli", task="generate", model=model, prompt=prompt, **draft),
        CATALOG,
        LimitsTable(),
        inputs=(),
        mask=None,
        draw_seed=lambda: 7,
        new_id=lambda: "job",
        preview_steps=4,
    )


def said(asked: Order) -> set[str]:
    return {notice.param for notice in asked.notices}


def test_what_a_model_always_wears() -> None:
    assert order().job.loras == (("oil", 1.0),)
    assert order(lora_strength=50).job.loras == (("oil", 0.5),)
    assert order(lora_strength=0).job.loras == ()
    assert order("bob").job.loras == ()


def test_a_style_brings_its_own() -> None:
    assert order(style_preset="ink").job.loras == (("ink", 0.8), ("oil", 1.0))
    assert order(style_preset="ink", lora_strength=25).job.loras == (("ink", 0.2), ("oil", 0.25))
    assert order("bob", style_preset="ink").job.loras == (("ink", 1.0),)
    without = order("eve", style_preset="ink")
    assert without.job.loras == ()
    assert said(without) == {"style_preset"}


def test_a_strength_without_a_lora_is_told() -> None:
    assert said(order("eve", lora_strength=50)) == {"lora_strength"}
    assert said(order("eve", lora_strength=0)) == set()


def test_tags_are_taken_out_of_the_prompt() -> None:
    asked = order("bob", "an <lora:ink:0.5> owl", tags=True)
    assert (asked.job.prompt, asked.job.loras) == ("an owl", (("ink", 0.5),))
    assert order("ann", "<LoRA:Ink> owl", tags=True).job.loras == (("ink", 0.8), ("oil", 1.0))
    assert order("ann", "owl <lora:oil:-1>", tags=True).job.loras == (("oil", -1.0),)
    assert order("bob", "owl <lora:ink:0>", tags=True).job.loras == ()
    tagged = order("bob", "owl <lora:ink:0.5>", tags=True, lora_strength=10)
    assert tagged.job.loras == (("ink", 0.5),)
    assert said(tagged) == {"lora_strength"}


def test_where_tags_are_not_spoken_they_are_words() -> None:
    asked = order("bob", "an  <lora:ink:0.5> owl")
    assert (asked.job.prompt, asked.job.loras) == ("an  <lora:ink:0.5> owl", ())


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("<lora:oil>", "it has: ink"),
        ("<lora:ink:much>", "from -4 to 4"),
        ("<lora:ink:5>", "from -4 to 4"),
        ("<lora:ink:nan>", "from -4 to 4"),
        ("<lora:ink:0.8:0.6>", "from -4 to 4"),
        ("<lora:ink:>", "from -4 to 4"),
        ("<lora:>", "it has: ink"),
    ],
)
def test_wrong_tags_are_refused(prompt: str, words: str) -> None:
    with pytest.raises(BadRequest, match=words) as caught:
        order("bob", prompt, tags=True)
    assert caught.value.param == "prompt"
