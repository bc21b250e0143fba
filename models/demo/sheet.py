"""A labelled sheet of pictures, to judge a model by eye."""

from pathlib import Path

from PIL import Image, ImageDraw

from models.demo.painter import Painter
from models.demo.scenes import SQUARE, TALL, WIDE, Frame

LABEL, GAP = 26, 8
PAPER, INK = (255, 255, 255), (40, 40, 40)
ROWS: tuple[tuple[Frame, tuple[str, ...]], ...] = (
    (
        SQUARE,
        (
            "a red circle on a blue background",
            "a yellow star on a black background",
            "a pink heart on a white background",
            "an orange ring in the center on a teal background",
            "a large black cross on a pink background",
            "a small white diamond in the top right on a blue background",
        ),
    ),
    (
        SQUARE,
        (
            "a black cat on an orange background",
            "a red house on a white background",
            "a large green tree in the center on a yellow background",
            "a large teal fish on a purple background",
            "a yellow car at the bottom on a blue background",
            "a red mushroom on a teal background",
        ),
    ),
    (
        SQUARE,
        (
            "two white cats on a purple background",
            "three yellow stars on a blue background",
            "three green trees on a white background",
            "a red house to the left of a green tree on a teal background",
            "a white crescent above a black cat on a purple background",
            "a blue fish below an orange fish on a white background",
        ),
    ),
    (
        SQUARE,
        (
            "a red boat on the sea by day with the sun",
            "the sea at sunset with the sun",
            "mountains at sunset with the sun",
            "a white house on hills by day with the sun",
            "a white tree on mountains at night with the moon",
            "a purple balloon above the sea by day with the sun",
        ),
    ),
    (
        WIDE,
        (
            "a white cat on the left on a blue background",
            "three pink hearts on a black background",
            "a yellow car at the bottom on a green background",
            "a red house to the right of a green tree on a yellow background",
        ),
    ),
    (
        TALL,
        (
            "three red hearts on a pink background",
            "a large green tree at the bottom on a white background",
            "a yellow crescent above a white house on a black background",
            "a purple mushroom at the top on an orange background",
            "two black cats on a teal background",
            "a red fish below a white car on a blue background",
        ),
    ),
)


def sheet(painter: Painter, path: Path) -> None:
    """Writes the pictures of ROWS with their prompts below them."""
    width = max(len(prompts) * (frame[0] + GAP) for frame, prompts in ROWS) + GAP
    height = sum(frame[1] + LABEL + GAP for frame, _ in ROWS) + GAP
    page = Image.new("RGB", (width, height), PAPER)
    pen, y = ImageDraw.Draw(page), GAP
    for number, (frame, prompts) in enumerate(ROWS):
        seeds = [100 * number + index for index in range(len(prompts))]
        pictures = painter.paint(prompts, seeds, frame=frame)
        for index, (prompt, picture) in enumerate(zip(prompts, pictures, strict=True)):
            x = GAP + index * (frame[0] + GAP)
            page.paste(Image.fromarray(picture), (x, y))
            label = fold(prompt, frame[0] // 5 + 3)
            pen.multiline_text((x, y + frame[1] + 1), label, fill=INK, font_size=9, spacing=1)
        y += frame[1] + LABEL + GAP
    page.save(path, optimize=True)


def fold(prompt: str, width: int = 28) -> str:
    """The prompt on lines of at most `width` letters."""
    lines = [""]
    for word in prompt.split():
        if len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)
