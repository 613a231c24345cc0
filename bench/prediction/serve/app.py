"""The service: its addresses, and what happens to a request."""

from __future__ import annotations

import asyncio
import hmac
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import numpy.typing as npt
from fastapi import FastAPI, Header, Query, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from bench.errors import BenchError
from bench.methods.target_tasks import MULTI_LABEL, REGRESSION
from bench.models.evaluation import EVALUATION_BATCH
from bench.prediction.outputs import UNSURE, Outputs
from bench.prediction.samples import NO_NUMBERS
from bench.prediction.serve.batching import Batcher
from bench.prediction.serve.limits import Limits
from bench.prediction.serve.measured import Measured
from bench.prediction.serve.uploads import (
    RefusedError,
    Room,
    SentText,
    Upload,
    decoded,
    read_text,
    texts_of,
    uploads_of,
)

if TYPE_CHECKING:
    from bench.prediction.model import TrainedModel

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
PAGES = {
    "/": ("index.html", "text/html"),
    "/app.js": ("app.js", "text/javascript"),
    "/style.css": ("style.css", "text/css"),
}
_STRINGS = {"type": "array", "items": {"type": "string"}}
BODIES: dict[str, dict[str, Any]] = {
    "image": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {
                    "file": {"type": "array", "items": {"type": "string", "format": "binary"}}
                },
            }
        },
        "application/json": {
            "schema": {
                "type": "object",
                "properties": {
                    "images": {
                        "type": "array",
                        "items": {"type": "string", "contentEncoding": "base64"},
                    }
                },
            }
        },
        "image/*": {"schema": {"type": "string", "format": "binary"}},
    },
    "text": {
        "application/json": {"schema": {"type": "object", "properties": {"texts": _STRINGS}}},
        "text/plain": {"schema": {"type": "string"}},
    },
}
"""What a request may have, by the kind of sample."""

ANSWERS: dict[int | str, dict[str, Any]] = {
    401: {"description": "The token is missing or wrong."},
    408: {"description": "The request took too long to arrive."},
    415: {"description": "The type of the body is not supported."},
    429: {"description": "Too much at once: try again after `Retry-After` seconds."},
    503: {"description": "It took too long, or the service is ending."},
}
ANSWERS_OF: dict[str, dict[int | str, dict[str, Any]]] = {
    "image": {
        413: {"description": "Too many bytes, images or pixels."},
        422: {"description": "No image, or one that cannot be read."},
    },
    "text": {
        413: {"description": "Too many bytes, texts or characters."},
        422: {"description": "No text, or one that says nothing."},
    },
}
"""Those that name what samples are."""

_DOES = {
    "classification": "Classifies {}",
    "regression": "Predicts numbers of {}",
    "multi_label": "Labels {}",
}
"""What a service does with samples, by its target task."""


@dataclass(frozen=True, kw_only=True)
class _Answered:
    """What was predicted of a sample; of a text, whether the network did not see its end."""

    outputs: npt.NDArray[Any]
    cut: bool | None = None


class Service:
    """A model that answers requests within limits."""

    def __init__(self, model: TrainedModel, limits: Limits, token: str | None) -> None:
        self.model = model
        self.limits = limits
        self.kind = model.preprocessing.kind
        self.measured = Measured(f"{self.kind}s")
        self.room = Room(limits)
        self.batcher = Batcher(
            model.answers_of_prepared,
            most=EVALUATION_BATCH,
            on_batch=self.measured.batch,
        )
        self._token = token
        self._readers = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="decode")

    @property
    def does(self) -> str:
        """What it does, in words."""
        return _DOES[self.model.outputs.task.name].format(f"{self.kind}s")

    def check_token(self, header: str | None) -> None:
        """Raise `RefusedError` unless the header bears the token."""
        if self._token is None:
            return
        given = (header or "").removeprefix("Bearer ").strip()
        if not hmac.compare_digest(given.encode(), self._token.encode()):
            raise RefusedError(401, "send the token as Authorization: Bearer TOKEN")

    async def answer(
        self, request: Request, *, top: int | None, min_confidence: float
    ) -> dict[str, Any]:
        """What `POST /predict` returns; of several samples each has its own error."""
        self._check_asked(top, min_confidence)
        async with self.room.entered(), self.room.holding(request) as body:
            uploads = await self._sent(request, body)
            try:
                async with asyncio.timeout(self.limits.answer_seconds):
                    found = await asyncio.gather(*map(self._classified, uploads))
            except TimeoutError:
                raise RefusedError(503, "it took too long; try again in a moment") from None
        if len(found) == 1 and isinstance(found[0], RefusedError):
            raise found[0]
        if all(isinstance(each, RefusedError) for each in found):
            raise RefusedError(422, f"none of the {self.kind}s can be read")
        rows = [
            self._row(upload, each, top, min_confidence)
            for upload, each in zip(uploads, found, strict=True)
        ]
        return {"trial": self.model.chosen.id, "predictions": rows}

    async def _sent(self, request: Request, body: bytes) -> Sequence[Upload | SentText]:
        if self.kind == "text":
            return texts_of(request, body, self.limits)
        return await uploads_of(request, body, self.limits)

    async def _classified(self, upload: Upload | SentText) -> _Answered | RefusedError:
        """Its outputs, or why there are none."""
        loop = asyncio.get_running_loop()
        try:
            prepared, cut = await loop.run_in_executor(self._readers, self._prepared, upload)
            outputs = await self.batcher.probabilities(prepared)
            if not np.isfinite(outputs).all():
                raise RefusedError(422, NO_NUMBERS)
        except RefusedError as refused:
            self.measured.sample("refused")
            return refused
        except BenchError as error:  # of a checkpoint whose parts do not belong together
            self.measured.sample("refused")
            return RefusedError(422, str(error))
        self.measured.sample("classified")
        return _Answered(outputs=outputs, cut=cut)

    def _prepared(self, upload: Upload | SentText) -> tuple[npt.NDArray[Any], bool | None]:
        if isinstance(upload, SentText):
            tokens = self.model.tokens([read_text(upload, self.limits)])
            return tokens.ids[0], bool(tokens.cut[0])
        form = self.model.preprocessing.form
        return self.model.prepared(decoded(upload, self.limits, form=form)), None

    def _check_asked(self, top: int | None, min_confidence: float) -> None:
        """Raise `RefusedError` where the question has no meaning for what is predicted."""
        try:
            self.model.outputs.check_confidence("min_confidence", min_confidence)
            self.model.outputs.check_top("top", 1 if top is None else top)
        except BenchError as error:
            raise RefusedError(422, str(error)) from None

    def _row(
        self,
        upload: Upload | SentText,
        found: _Answered | RefusedError,
        top: int | None,
        min_confidence: float,
    ) -> dict[str, Any]:
        if isinstance(found, RefusedError):
            return {"name": upload.name, "error": found.reason}
        told = {"name": upload.name, **({} if found.cut is None else {"truncated": found.cut})}
        outputs = self.model.outputs
        named = dict(zip(outputs.names, map(float, found.outputs), strict=True))
        if outputs.task is REGRESSION:
            return {**told, "values": named}
        best = sorted(named, key=lambda name: -named[name])[: top or len(named)]
        probabilities = {name: named[name] for name in best}
        if outputs.task is MULTI_LABEL:
            given = list(outputs.labels(found.outputs))
            return {**told, "predicted": given, "probabilities": probabilities}
        sure = named[best[0]] >= min_confidence
        return {
            **told,
            "predicted": best[0] if sure else UNSURE,
            "confidence": named[best[0]],
            "probabilities": probabilities,
        }


def make_app(model: TrainedModel, *, limits: Limits, token: str | None = None) -> FastAPI:
    """The service as an ASGI application."""
    service = Service(model, limits, token)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        running = asyncio.create_task(service.batcher.run())
        yield
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running

    app = FastAPI(
        title="bench",
        description=f"{service.does}: {model.chosen.label}.",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.service = service

    @app.middleware("http")
    async def guard(request: Request, call: Callable[[Request], Awaitable[Response]]) -> Response:
        began = time.monotonic()
        response = await call(request)
        response.headers["Content-Security-Policy"] = POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        if request.url.path == "/predict":
            service.measured.request(response.status_code, time.monotonic() - began)
        return response

    @app.exception_handler(RefusedError)
    async def refused(_: Request, error: RefusedError) -> JSONResponse:
        headers = {"Retry-After": "1"} if error.status in (429, 503) else {}
        return JSONResponse({"error": error.reason}, error.status, headers)

    @app.post(
        "/predict",
        summary=f"Classify {service.kind}s",
        responses=dict(sorted({**ANSWERS, **ANSWERS_OF[service.kind]}.items())),
        openapi_extra={"requestBody": {"required": True, "content": BODIES[service.kind]}},
    )
    async def predict(
        request: Request,
        top: Annotated[
            int | None, Query(ge=1, description="Return only this many classes.")
        ] = None,
        min_confidence: Annotated[
            float,
            Query(
                ge=0,
                le=1,
                description="Return `unsure` if the most probable class is "
                "less probable than this.",
            ),
        ] = 0.0,
        authorization: Annotated[str | None, Header()] = None,
    ) -> dict[str, Any]:
        """Several samples in a form or in JSON, or a single one as the whole body."""
        service.check_token(authorization)
        return await service.answer(request, top=top, min_confidence=min_confidence)

    @app.get("/model", summary="The model and its limits")
    async def about() -> dict[str, Any]:
        return {
            "trial": model.chosen.id,
            "label": model.chosen.label,
            "why": model.chosen.why,
            "classes": list(model.classes),
            **({} if service.kind == "image" else {"takes": service.kind}),
            **_told_of(model.outputs),
            "needs_token": token is not None,
            "limits": vars(limits),
        }

    @app.get("/healthz", summary="Health check", response_class=PlainTextResponse)
    async def health() -> str:
        return "ok\n"

    @app.get("/metrics", summary="Metrics for Prometheus", response_class=PlainTextResponse)
    async def metrics() -> Response:
        text, kind = service.measured.text(waiting=service.batcher.waiting)
        return Response(text, media_type=kind)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        from bench.prediction.serve.docs import docs_page

        return Response(docs_page(app.openapi(), service.kind), media_type="text/html")

    for address, (name, kind) in PAGES.items():
        content = (resources.files(__package__) / "page" / name).read_bytes()
        app.add_api_route(
            address,
            _static(content, kind),
            methods=["GET"],
            include_in_schema=False,
        )
    return app


def _told_of(outputs: Outputs) -> dict[str, Any]:
    """What is said of a model that predicts no class: `classes` are its targets, or labels."""
    if outputs.task.has_classes:
        return {}
    told: dict[str, Any] = {"task": outputs.task.name}
    if outputs.thresholds is not None:
        told["thresholds"] = dict(zip(outputs.names, outputs.thresholds, strict=True))
    return told


def _static(content: bytes, kind: str) -> Callable[[], Awaitable[Response]]:
    async def page() -> Response:
        return Response(content, media_type=kind)

    return page
