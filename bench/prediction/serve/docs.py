"""The addresses of a service as a page, which needs nothing from other hosts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

EXAMPLES = {
    "image": """\
curl -F file=@photo.jpg http://HOST:PORT/predict
curl -F file=@one.jpg -F file=@two.jpg http://HOST:PORT/predict?top=3
curl --data-binary @photo.jpg -H "Content-Type: image/jpeg" http://HOST:PORT/predict
""",
    "text": """\
curl --json '{"text": "what a film"}' http://HOST:PORT/predict
curl --json '{"texts": ["what a film", "a bore"]}' http://HOST:PORT/predict?top=3
curl --data-binary @letter.txt -H "Content-Type: text/plain" http://HOST:PORT/predict
""",
}
"""By the kind of sample."""


def docs_page(schema: Mapping[str, Any], kind: str = "image") -> str:
    """The page of an OpenAPI schema; `kind` is that of the samples."""
    rows = "\n".join(_rows(schema))
    title = escape(str(schema["info"]["description"]))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>bench serve</title>'
        '<meta name="viewport" content="width=device-width"><link rel="stylesheet" '
        f'href="style.css"></head><body><main><h1>bench serve</h1><p>{title}</p>'
        f"<pre>{escape(EXAMPLES[kind])}</pre>{rows}<p>The same for programs: "
        '<a href="openapi.json">openapi.json</a>.</p></main></body></html>\n'
    )


def _rows(schema: Mapping[str, Any]) -> Iterator[str]:
    for path, methods in schema["paths"].items():
        for method, about in methods.items():
            address = f"<code>{method.upper()} {escape(path)}</code>"
            yield f"<h2>{address} {escape(about['summary'])}</h2>"
            if "description" in about:
                yield f"<p>{escape(about['description'])}</p>"
            for parameter in about.get("parameters", ()):
                text = parameter.get("description", "")
                yield f"<p><code>{escape(parameter['name'])}</code> {escape(text)}</p>"
            answers = about.get("responses", {})
            items = (f"<li>{code}: {escape(a['description'])}</li>" for code, a in answers.items())
            yield f"<ul>{''.join(items)}</ul>"
