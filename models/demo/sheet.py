"""A labelled sheet of pictures, to judge a model by eye."""

from pathlib import Path

from PIL import Image, ImageDraw

from models.demo.painter import Painter
from models.demo.scenes import SIDE

LABEL, GAP, COLUMNS = 26, 8, 6
PAPER, INK = (255, 255, 255), (40, 40, 40)
PROMPTS = (
    "a red circle on a blue background",
    "a yellow star on a black background",
    "a pink heart on a white background",
    "a green triangle on a yellow background",
    "a white crescent on a purple background",
    "an orange ring on a teal background",
    "a large black cross on a pink background",
    "a small white diamond in the top right on a blue background",
    "a purple square on the left on an orange background",
    "a large yellow crescent on a blue background",
    "a small red heart at the bottom on a white background",
    "a large teal star on a black background",
    "a white circle at the top on a green background",
    "a blue diamond on a yellow background",
    "a red cross on a white background",
    "a red circle to the left of a yellow square on a black background",
    "a white star above a pink heart on a purple background",
    "a green circle to the right of an orange triangle on a white background",
)


def sheet(painter: Painter, path: Path, prompts: tuple[str, ...] = PROMPTS) -> None:
    """Writes the prompts' pictures with the prompts below them, COLUMNS to a row."""
    pictures = painter.paint(prompts, range(len(prompts)))
    rows = -(-len(prompts) // COLUMNS)
    width, height = SIDE + GAP, SIDE + LABEL + GAP
    page = Image.new("RGB", (COLUMNS * width + GAP, rows * height + GAP), PAPER)
    pen = ImageDraw.Draw(page)
    for index, (prompt, picture) in enumerate(zip(prompts, pictures, strict=True)):
        x, y = GAP + index % COLUMNS * width, GAP + index // COLUMNS * height
        page.paste(Image.fromarray(picture), (x, y))
        pen.multiline_text((x, y + SIDE + 1), fold(prompt), fill=INK, font_size=9, spacing=1)
    page.quantize(128).save(path, optimize=True)


def fold(prompt: str, width: int = 28) -> str:
    """The prompt on lines of at most `width` letters."""
    lines = [""]
    for word in prompt.split():
        if len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)
