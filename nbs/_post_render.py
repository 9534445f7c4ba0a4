"""Takes out of the published pages what Quarto fetches from elsewhere; run by Quarto itself (`post-render` in _quarto.yml).

Quarto puts require.js and jQuery on every page with an HTML output, in case it is a widget. Ours are tables. Where the two scripts can be
fetched, KaTeX takes itself for a module of require.js, and no equation is rendered.
"""
import os
import re
from pathlib import Path

ELSEWHERE = re.compile(r"""<script\b[^>]*\ssrc=["'](?:https?:)?//[^>]*>\s*</script>\n?""", flags=re.I)
OF_REQUIRE = re.compile(r"""<script\b[^>]*>\s*define\(.*?</script>\n?""", flags=re.I | re.S)

if __name__ == "__main__":
    for page in Path(os.environ["QUARTO_PROJECT_OUTPUT_DIR"]).rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        page.write_text(OF_REQUIRE.sub("", ELSEWHERE.sub("", text)), encoding="utf-8")
