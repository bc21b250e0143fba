"""What the values of a configuration may be: sizes, paths, names and numbers of each kind.

Each raises ValueError with what it must be like. Knows no table.
"""

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    SecretStr,
    StringConstraints,
)

from server.library.snapshots import HF, Repository
from server.settings.addresses import (
    database,
    fetched_from,
    host_name,
    origin,
    shelf,
    url,
)
from server.sizes import Size

KEY_CHARS = 32  # of a signing key
DEMO = "demo:"  # a path that starts so names a folder that ships with the package


def size_of(value: object) -> Size:
    return value if isinstance(value, Size) else Size.parse(str(value))


def at_home(path: Path) -> Path:
    try:
        return (path.expanduser() if str(path).startswith("~") else path).absolute()
    except RuntimeError as error:
        raise ValueError(f"{path} starts at a home folder, and there is no known home") from error


def long_enough(key: SecretStr) -> SecretStr:
    if len(key.get_secret_value()) < KEY_CHARS:
        raise ValueError(f"each must have at least {KEY_CHARS} characters, all of them random")
    return key


def template(text: str) -> str:
    if text.count("{prompt}") != 1:
        raise ValueError("must hold {prompt} exactly once")
    return text


def ordered(low_high: tuple[float, float]) -> tuple[float, float]:
    if low_high[0] > low_high[1]:
        raise ValueError("must name the lower end first")
    return low_high


def model_path(text: str) -> str:
    if text.startswith(DEMO) and not text.removeprefix(DEMO).replace("-", "_").isidentifier():
        raise ValueError(f'must name a model that ships with limner, like "{DEMO}sketch"')
    if text.startswith(HF):
        return Repository.parse(text).path
    return str(at_home(Path(text))) if text.startswith("~") else text


def preview_path(text: str) -> str:
    if text.startswith(HF):
        raise ValueError("must name a folder: a repository is not looked up here")
    return model_path(text)


def enlarger_path(text: str) -> str:
    return model_path(text) if text.startswith(DEMO) else weights_path(text)


def weights_path(text: str) -> str:
    if not text.endswith(".safetensors"):
        raise ValueError("must lead to a .safetensors file; nothing else is opened")
    return str(at_home(Path(text))) if text.startswith("~") else text


def name_key(name: str) -> str:
    """What a style's name is compared by: no case, and spaces, `-` and `_` are one."""
    return " ".join(name.replace("-", " ").replace("_", " ").casefold().split())


AnySize: TypeAlias = Annotated[Size, PlainValidator(size_of)]
Folder: TypeAlias = Annotated[Path, AfterValidator(at_home)]
Url: TypeAlias = Annotated[str, AfterValidator(url)]
ShelfUrl: TypeAlias = Annotated[str, AfterValidator(shelf)]
DatabaseUrl: TypeAlias = Annotated[str, AfterValidator(database)]
Hosts: TypeAlias = Annotated[
    Literal["off", "public"] | tuple[str, ...], PlainValidator(fetched_from)
]
Key: TypeAlias = Annotated[SecretStr, AfterValidator(long_enough)]
HostName: TypeAlias = Annotated[str, AfterValidator(host_name)]
Origin: TypeAlias = Annotated[str, AfterValidator(origin)]
Slug: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
Name: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[!-~]{1,128}$")]
Device: TypeAlias = Annotated[str, StringConstraints(pattern=r"^(auto|cpu|cuda|cuda:[0-9]{1,3})$")]
Seconds: TypeAlias = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Steps: TypeAlias = Annotated[int, Field(ge=1, le=1000)]
Guidance: TypeAlias = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]


class Table(BaseModel):
    """A table of the file: frozen, and a key it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")
