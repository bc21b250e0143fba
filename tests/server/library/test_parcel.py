"""What is fetched of a repository: what loading a diffusers folder takes, and nothing that runs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.library.hub import HubError
from server.library.parcel import KEPT, needed
from server.library.snapshots import Repository

INDEX = {"_class_name": "P", "unet": ["diffusers", "U"], "vae": ["diffusers", "V"]}
VARIANTS = ["bf16", "fp16", "fp32", "non_ema", "ema_only"]


def fetched(*names: str) -> set[str]:
    return set(needed(["model_index.json", *names], INDEX)) - {"model_index.json"}


def test_plain_weights_go_before_variants() -> None:
    plain = {"unet/m-00001-of-00002.safetensors", "unet/m-00002-of-00002.safetensors"}
    plain |= {"unet/m.safetensors.index.json", "vae/m.safetensors", "vae/config.json"}
    variants = {f"unet/m.{each}.safetensors" for each in VARIANTS}
    variants |= {"unet/m.safetensors.index.fp16.json", "unet/m.fp16-00001-of-00002.safetensors"}
    assert fetched(*plain, *variants) == plain


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_is_taken_where_there_is_nothing_else(variant: str) -> None:
    whole = {
        "unet/config.json",
        f"unet/m.{variant}-00001-of-00002.safetensors",
        f"unet/m.{variant}-00002-of-00002.safetensors",
        f"unet/m.safetensors.index.{variant}.json",
    }
    assert fetched(*whole) == whole


def test_of_several_variants_one_is_taken() -> None:
    assert fetched("unet/m.fp16.safetensors", "unet/m.bf16.safetensors") == {
        "unet/m.bf16.safetensors"
    }


def test_each_part_decides_for_itself() -> None:
    both = {"unet/m.fp16.safetensors", "vae/m.safetensors"}
    assert fetched(*both, "vae/m.fp16.safetensors") == both


def test_a_part_of_pickles_is_refused() -> None:
    with pytest.raises(HubError, match=r"vae is .*vae/m\.bin"):
        fetched("unet/m.safetensors", "vae/m.bin")


@given(
    st.lists(
        st.builds(
            "{}{}{}".format,
            st.sampled_from(["", "unet/", "vae/", "vae/deep/", "other/", "unet/../"]),
            st.sampled_from(["m", "m.fp16", "config", "m.safetensors.index"]),
            st.sampled_from([".py", ".safetensors", ".json", ".onnx", ".msgpack", ".exe", ".PY"]),
        ),
        unique=True,
    )
)
def test_nothing_but_data_of_the_parts_is_ever_fetched(names: list[str]) -> None:
    for name in fetched(*names):
        part, _, file = name.partition("/")
        assert part in ("unet", "vae")
        assert "/" not in file
        assert file.endswith(KEPT)


@pytest.mark.parametrize(
    ("text", "id_", "revision"),
    [
        ("hf:ann/tiny", "ann/tiny", "main"),
        ("ann/tiny.v1_x-2", "ann/tiny.v1_x-2", "main"),
        ("hf:ann/tiny@v1.0", "ann/tiny", "v1.0"),
        ("ann/tiny@refs/pr/7", "ann/tiny", "refs/pr/7"),
    ],
)
def test_repositories_are_read_and_written(text: str, id_: str, revision: str) -> None:
    repository = Repository.parse(text)
    assert (repository.id, repository.revision) == (id_, revision)
    assert Repository.parse(repository.path) == repository


@pytest.mark.parametrize(
    "text",
    [
        *("", "tiny", "hf:", "a/b/c", "../tiny", "ann/..", "/etc/passwd", "a--b/c", "ann/t ny"),
        *("ann/tiny@", "ann/tiny@../../x", "ann/tiny@/x", "ann/tiny\n", "ann/-", "ann\\tiny"),
    ],
)
def test_what_names_no_repository_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="ORG/NAME"):
        Repository.parse(text)
