"""Looking up models and styles, and the arithmetic of sizes, as examples and as properties."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from server.errors import BadRequest, UnknownModel
from server.jobs.catalog import Catalog, Style
from server.settings.config import load
from server.sizes import (
    MAX_SIDE,
    MIN_SIDE,
    STEP,
    Size,
    Sizing,
    Wish,
    enlarges,
    paint_size,
    plan_sizes,
    size_of_area,
    within_limits,
)

CONFIGS = Path(__file__).parents[3] / "configs"
LIMIT = 4096**2
SKETCH = Sizing(native=(Size(128, 128),), multiple=32, max_pixels=128 * 192, default=Size(512, 512))
LARGE = Sizing(
    native=(Size(1024, 1024), Size(832, 1216), Size(1216, 832)),
    multiple=16,
    max_pixels=1024 * 1536,
    default=Size(1024, 1024),
)

# What the services print in their documentation.
OPENAI = "dall-e-2 dall-e-3 gpt-image-1 gpt-image-1-mini gpt-image-1.5 gpt-image-2"
AIMO = "dall-e-3 flux-pro"
VENICE = """firered-image-edit qwen-edit qwen-edit-uncensored grok-imagine-edit
    grok-imagine-quality-edit qwen-image-2-edit qwen-image-2-pro-edit wan-2-7-pro-edit
    flux-2-max-edit gpt-image-2-edit gpt-image-1-5-edit nano-banana-2-edit nano-banana-pro-edit
    seedream-v5-lite-edit seedream-v4-edit venice-sd35 default"""


@pytest.fixture(scope="module")
def demo():
    return Catalog.of(load(CONFIGS / "demo.toml"))


# -- Names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("slug", sorted({*OPENAI.split(), *AIMO.split(), *VENICE.split()}))
def test_documented_slug_leads_to_the_shipped_model(demo, slug):
    assert demo.find(slug).id == "sketch"
    assert demo.find(f" {slug.upper()} ").id == "sketch"


def test_an_offering_knows_its_aliases(demo):
    assert demo.find("sketch") is demo.offerings[0]
    assert {"dall-e-3", "flux-pro", "qwen-edit"} <= {*demo.offerings[0].aliases}


@pytest.mark.parametrize("name", ["", "skech", "\ud800", "x" * 10_000, "sketch\n"[:6] + "é"])
def test_an_unknown_model_is_refused_with_those_there_are(demo, name):
    with pytest.raises(UnknownModel, match="sketch") as caught:
        demo.find(name)
    assert caught.value.param == "model"
    assert len(caught.value.message.encode()) < 1000


def test_styles_are_found_whatever_their_spelling(demo):
    for spelling in ("Pop Art", "pop-art", "POP_ART", " pop  art "):
        assert demo.preset(spelling).name == "Pop Art"
    assert demo.style("no such thing") is None


def test_an_unknown_preset_is_refused_with_the_allowed(demo):
    with pytest.raises(BadRequest, match=r"Anime.*Watercolor") as caught:
        demo.preset("Vaporwave")
    assert caught.value.param == "style_preset"
    assert len(caught.value.message.encode()) < 2000


def test_a_style_takes_the_prompt_into_its_template():
    style = Style("Ink", "ink, {prompt}, {prompt}", "colour")
    assert style.apply("a {prompt} cat", "dog") == ("ink, a {prompt} cat, {prompt}", "dog, colour")
    assert style.apply("cat", "")[1] == "colour"
    assert Style("Plain", "{prompt}", "").apply("cat", "") == ("cat", "")


def test_a_catalog_cannot_be_changed(demo):
    with pytest.raises(AttributeError):
        demo.styles = ()
    with pytest.raises(TypeError):
        demo._by_name["x"] = demo.offerings[0]


# -- Sizes: examples ------------------------------------------------------------------------------


def plan(sizing=SKETCH, limit=LIMIT, **wish):
    return plan_sizes(sizing, Wish(**wish), limit)


@pytest.mark.parametrize(
    ("wish", "output", "paint"),
    [
        ({}, "512x512", "128x128"),
        ({"width": 128, "height": 128}, "128x128", "128x128"),
        ({"width": 100, "height": 130}, "100x130", "128x160"),
        ({"width": 1024, "height": 512}, "1024x512", "192x96"),
        ({"width": 1000}, "1000x1000", "128x128"),
        ({"height": 600, "aspect_ratio": "3:2"}, "900x600", "160x96"),
        ({"width": 640, "aspect_ratio": "16:9"}, "640x360", "160x96"),
        ({"width": 300, "base": Size(640, 480)}, "300x225", "128x96"),
        ({"width": 300, "height": 300, "aspect_ratio": "3:2"}, "300x300", "128x128"),
        ({"aspect_ratio": "16:9"}, "680x384", "160x96"),
        ({"aspect_ratio": "1:100"}, "64x6400", "32x768"),
        ({"base": Size(20, 30), "aspect_ratio": "16:9"}, "112x64", "128x64"),
        ({"resolution": "1K"}, "1024x1024", "128x128"),
        ({"resolution": "2K", "aspect_ratio": "16:9"}, "2728x1536", "160x96"),
        ({"resolution": "4K", "aspect_ratio": "21:9"}, "6256x2680", "224x96"),
        ({"resolution": "1K", "base": Size(640, 480)}, "1176x880", "128x96"),
        ({"base": Size(640, 480)}, "640x480", "128x96"),
        ({"base": Size(333, 777)}, "333x777", "96x224"),
        ({"base": Size(640, 480), "aspect_ratio": "1:1"}, "552x552", "128x128"),
        ({"base": Size(7000, 4000)}, "5418x3096", "160x96"),
        ({"base": Size(10_000, 500)}, "8192x409", "576x32"),
        ({"base": Size(20, 30)}, "64x96", "96x160"),
    ],
)
def test_sizes_of_the_shipped_model(wish, output, paint):
    settled = plan(**wish)
    assert (str(settled.output), str(settled.paint)) == (output, paint)


@pytest.mark.parametrize(
    ("ratio", "output"),
    [("1:1", "64x64"), ("16:9", "112x64"), ("9:16", "64x112"), ("64:1", "4096x64")],
)
def test_a_ratio_of_a_small_default_is_enlarged_until_it_fits(ratio, output):
    small = Sizing(native=(Size(64, 64),), multiple=8, max_pixels=65536, default=Size(64, 64))
    assert str(plan(small, aspect_ratio=ratio).output) == output


@pytest.mark.parametrize(
    ("output", "paint"),
    [
        ("1024x1024", "1024x1024"),
        ("1000x1000", "1008x1008"),
        ("720x720", "720x720"),  # half the smallest native area, and a little more
        ("512x512", "1024x1024"),
        ("1536x1024", "1536x1024"),
        ("2048x1360", "1232x816"),  # the landscape native, in its own aspect
        ("900x1600", "912x1600"),
        ("1800x3200", "752x1344"),
    ],
)
def test_sizes_of_a_large_model(output, paint):
    assert str(paint_size(LARGE, Size.parse(output))) == paint


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({}, []),
        ({"width": 512}, [("width", "painted at 128x128 and enlarged to 512x512 (Lanczos)")]),
        ({"width": 128, "height": 128}, []),
        ({"width": 64, "height": 64}, [("width", "painted at 128x128 and reduced to 64x64")]),
        ({"width": 97, "height": 128}, []),  # rounded to the multiple, and nobody sees it
        ({"height": 512}, [("height", "enlarged")]),
        ({"resolution": "1K"}, [("resolution", "enlarged")]),
        ({"aspect_ratio": "1:2"}, [("aspect_ratio", "enlarged")]),
        ({"base": Size(512, 512)}, [("images", "enlarged")]),
        ({"base": Size(512, 512), "resolution": "1K"}, [("resolution", "enlarged to 1024x1024")]),
        ({"base": Size(512, 512), "aspect_ratio": "1:2"}, [("aspect_ratio", "enlarged")]),
        ({"base": Size(100, 120)}, []),
        ({"base": Size(8, 8)}, [("images", "answered at 64x64"), ("images", "reduced to 64x64")]),
        ({"width": 128, "height": 128, "resolution": "1K"}, [("resolution", "not used")]),
        ({"width": 128, "height": 128, "aspect_ratio": "2:1"}, [("aspect_ratio", "not used")]),
        ({"width": 128, "height": 128, "aspect_ratio": "1:1"}, []),
    ],
)
def test_what_is_said_about_sizes(wish, said):
    notices = plan(**wish).notices
    assert [notice.param for notice in notices] == [param for param, _ in said]
    for notice, (_, part) in zip(notices, said, strict=True):
        assert part in notice.message
        assert notice.message.isascii()


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"width": 512}, ["painted at 128x128 and enlarged to 512x512 by a network"]),
        ({"width": 160}, ["painted at 128x128 and enlarged to 160x160 by a network"]),
        ({"width": 64}, ["painted at 128x128 and reduced to 64x64 (Lanczos)"]),
        ({"width": 128}, []),
    ],
)
def test_a_network_enlarges_where_there_is_much_to_enlarge(wish, said):
    sizing = replace(SKETCH, enlarger=True)
    plan = plan_sizes(sizing, Wish(**wish), LIMIT)
    assert [notice.message for notice in plan.notices] == said
    assert enlarges(sizing, plan.paint, plan.output) == any("network" in text for text in said)
    assert not enlarges(SKETCH, plan.paint, plan.output)
    assert not enlarges(sizing, Size(128, 128), Size(156, 156))


@pytest.mark.parametrize(
    ("param", "wish"),
    [
        ("width", {"width": 63}),
        ("width", {"width": -(10**5000), "height": 64}),
        ("height", {"width": 64, "height": 8193}),
        ("width", {"width": 5000, "height": 5000}),
        ("width", {"width": 8000, "aspect_ratio": "1:2"}),
        ("height", {"height": 64, "aspect_ratio": "1:2"}),
        ("aspect_ratio", {"aspect_ratio": "16x9"}),
        ("aspect_ratio", {"aspect_ratio": "0:1"}),
        ("aspect_ratio", {"aspect_ratio": "1:" + "9" * 5000}),
        ("aspect_ratio", {"aspect_ratio": "1:200"}),
        ("aspect_ratio", {"aspect_ratio": "1.5:1"}),
        ("resolution", {"aspect_ratio": "1:100", "resolution": "1K"}),
        ("aspect_ratio", {"aspect_ratio": "१:२"}),
        ("resolution", {"resolution": "8K"}),
        ("resolution", {"resolution": "4K", "limit": 2**20}),
    ],
)
def test_a_size_outside_the_limits_names_its_field(param, wish):
    with pytest.raises(BadRequest) as caught:
        plan(**wish)
    assert caught.value.param == param
    assert param in caught.value.message
    assert len(caught.value.message) < 200


@pytest.mark.parametrize("text", ["", "512", "512x", "x512", "0x5", "-1x5", "5x5x5", "5 x 5"])
def test_what_is_no_size(text):
    with pytest.raises(ValueError, match="is not a size"):
        Size.parse(text)


# -- Sizes: properties ----------------------------------------------------------------------------

sides = st.integers(MIN_SIDE, MAX_SIDE)
any_size = st.builds(Size, st.integers(1, 20_000), st.integers(1, 20_000))
outputs = st.builds(Size, sides, sides).filter(lambda size: size.area <= LIMIT)
ratios = st.builds("{}:{}".format, st.integers(1, 32), st.integers(1, 32))


@st.composite
def sizings(draw):
    multiple = draw(st.sampled_from([8, 16, 32, 64]))
    cells = st.integers(1, 2048 // multiple)
    native = draw(
        st.lists(
            st.builds(lambda w, h: Size(w * multiple, h * multiple), cells, cells),
            min_size=1,
            max_size=4,
        )
    )
    largest = max(size.area for size in native)
    most = draw(st.integers(largest, largest * 3))
    return Sizing(native=tuple(native), multiple=multiple, max_pixels=most, default=draw(outputs))


wishes = st.builds(
    Wish,
    width=st.none() | sides,
    height=st.none() | sides,
    aspect_ratio=st.none() | ratios,
    resolution=st.sampled_from([None, "1K", "2K", "4K"]),
    base=st.none() | any_size,
)


@given(sizings(), outputs)
def test_a_paint_size_is_one_the_model_can_paint(sizing, output):
    paint = paint_size(sizing, output)
    assert paint.width > 0
    assert paint.height > 0
    assert paint.width % sizing.multiple == paint.height % sizing.multiple == 0
    assert paint.area <= sizing.max_pixels


@given(sizings(), outputs)
def test_painting_keeps_the_aspect_within_rounding(sizing, output):
    paint = paint_size(sizing, output)
    assume(min(paint.width, paint.height) > sizing.multiple)  # no ribbon
    rounding = math.log(1 + sizing.multiple / (min(paint.width, paint.height) - sizing.multiple))
    assert abs(math.log(paint.aspect / output.aspect)) <= rounding + 1e-9


@given(sizings(), outputs)
def test_an_explicit_size_is_answered_as_asked_and_again(sizing, output):
    settled = plan(sizing, width=output.width, height=output.height)
    assert settled.output == output
    paint, apart = settled.paint, sizing.multiple
    differs = abs(paint.width - output.width) >= apart or abs(paint.height - output.height) >= apart
    assert differs == (len(settled.notices) == 1)
    assert plan(sizing, width=settled.output.width, height=settled.output.height) == settled


def planned_or_refused(sizing, wish):
    try:
        return plan_sizes(sizing, wish, LIMIT)
    except BadRequest as refusal:
        return refusal


@given(sizings(), wishes)
def test_any_wish_is_planned_or_refused(sizing, wish):
    settled = planned_or_refused(sizing, wish)
    if isinstance(settled, BadRequest):
        assert settled.param in ("width", "height", "aspect_ratio", "resolution")
        return
    output = settled.output
    assert min(output.width, output.height) >= MIN_SIDE
    assert max(output.width, output.height) <= MAX_SIDE
    assert output.area <= LIMIT
    assert settled.paint.area <= sizing.max_pixels
    again = plan(sizing, width=output.width, height=output.height)
    assert (again.output, again.paint) == (output, settled.paint)


@given(sizings(), any_size)
def test_an_edit_is_always_answered(sizing, base):
    output = plan(sizing, base=base).output
    sides = base.width, base.height
    fits = min(sides) >= MIN_SIDE and max(sides) <= MAX_SIDE and base.area <= LIMIT
    assert output == base or not fits


@given(sizings(), st.integers(1, 64), st.integers(1, 64), st.none() | any_size)
def test_a_ratio_alone_is_always_answered(sizing, across, down, base):
    output = plan(sizing, aspect_ratio=f"{across}:{down}", base=base).output
    assert abs(math.log(output.aspect / (across / down))) < math.log((MIN_SIDE + STEP) / MIN_SIDE)


@given(any_size, st.integers(MIN_SIDE * MAX_SIDE, LIMIT))
def test_limits_hold_and_change_nothing_inside_them(size, limit):
    fitted = within_limits(size, limit)
    assert min(fitted.width, fitted.height) >= MIN_SIDE
    assert max(fitted.width, fitted.height) <= MAX_SIDE
    assert fitted.area <= limit
    assert within_limits(fitted, limit) == fitted


@given(st.integers(64, 4096), st.floats(1 / 8, 8))
def test_an_area_is_preserved_within_rounding(side, aspect):
    size = size_of_area(side**2, aspect, 8, side**2)
    assert size.area <= side**2
    assert math.sqrt(side**2 / aspect) - size.height <= 8
    assert math.sqrt(side**2 * aspect) - size.width <= 8
