"""The pictures of a report's page as files, for slides and papers."""

import re
from base64 import b64decode
from html import unescape
from pathlib import Path

PICTURES_FOLDER = "pictures"
_PICTURE = re.compile(r'<img alt="([^"]*)" src="data:image/png;base64,([A-Za-z0-9+/=]+)">')
_NAME_CHARACTERS_MAX = 40


def save_pictures(page: str, folder: Path) -> list[Path]:
    """Write each PNG in the page to `folder/pictures/NN-CAPTION.png`; those of an earlier page go."""
    album = folder / PICTURES_FOLDER
    album.mkdir(parents=True, exist_ok=True)
    for old in album.glob("[0-9][0-9]-*.png"):
        old.unlink()
    saved = []
    for number, (caption, data) in enumerate(_PICTURE.findall(page), 1):
        words = re.sub(r"[^a-z0-9]+", "-", unescape(caption).lower()).strip("-")
        path = album / f"{number:02}-{words[:_NAME_CHARACTERS_MAX].strip('-')}.png"
        path.write_bytes(b64decode(data))
        saved.append(path)
    return saved
