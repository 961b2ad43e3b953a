"""Show the notebooks of this folder on the site: a hook of MkDocs."""

import json
import re
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent


def on_files(files: Any, config: Any) -> Any:
    """Add a page for each notebook; MkDocs calls it before it builds the site."""
    from mkdocs.structure.files import File

    for path in sorted(FOLDER.glob("*.ipynb")):
        files.append(File.generated(config, f"examples/{path.stem}.md", content=page_of(path)))
    return files


def on_page_content(html: str, page: Any, config: Any, files: Any) -> str:
    """Keep short code and options whole, which browsers break after a hyphen, as in `--workers`."""
    return re.sub(r"(?<!</span>)<code>([^<\n]*)</code>", _keep_whole, html)


def _keep_whole(code: re.Match[str]) -> str:
    if len(code[1]) <= 24:
        return f'<code class="whole">{code[1]}</code>'
    options = re.sub(r"(?<!\S)--[a-z-]+", r'<span class="whole">\g<0></span>', code[1])
    return f"<code>{options}</code>"


def page_of(path: Path) -> str:
    """Return a notebook as Markdown: its texts, its code, and what it answered."""
    notebook = json.loads(path.read_text("utf-8"))
    parts = []
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            # Notebooks lie beside docs/, their pages in it.
            parts.append(text.replace("](../docs/", "](../"))
        else:
            parts.append(f"```python\n{text}\n```")
            parts.extend(map(_output, cell["outputs"]))
    source = f"*This page is the notebook `examples/{path.name}`, which a test runs.*"
    return "\n\n".join([*parts, source]) + "\n"


def _output(output: dict[str, Any]) -> str:
    """Return what a cell answered, as a picture or as text."""
    data = output.get("data", {})
    if "image/png" in data:
        return f"![what the cell above shows](data:image/png;base64,{''.join(data['image/png']).strip()})"
    text = "".join(output.get("text") or data["text/plain"]).rstrip()
    # Lines of a drawn table are not to be broken.
    language = "" if "│" in text else "output"
    return f"```{language}\n{text}\n```"
