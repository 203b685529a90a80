"""The sandbox's own endpoints: look at it and change it while it runs; no keys needed."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, HTTPException, Request
from pydantic import BaseModel, Field

from airflow_provider_mediquo.sandbox.model import faults
from airflow_provider_mediquo.sandbox.model.service import MediQuo
from airflow_provider_mediquo.sandbox.settings import Settings

SCRIPT = "\n".join(
    [
        "Append outcomes to an endpoint's script, and show what is still to come. Outcomes:\n",
        *(f"- `{name}`: {meaning}" for name, meaning in faults.OUTCOMES.items()),
        "- `400` to `599`, or with a Retry-After in seconds as in `429:3`: that error",
    ]
)
Changes = Annotated[Settings, Body(examples=[{"lag": 0.5, "error_rate": 0.1}])]

router = APIRouter(prefix="/sandbox", tags=["Sandbox"])


class Script(BaseModel):
    """What the next requests to an endpoint get, one each, before any random fault."""

    endpoint: str = Field(examples=["upsert"])
    outcomes: list[str] = Field(examples=[["503", "lost_after", "429:3", "ok"]])


def mediquo_of(request: Request) -> MediQuo:
    found: MediQuo = request.app.state.mediquo
    return found


@router.get("/settings")
async def settings(request: Request) -> Settings:
    """How the sandbox behaves."""
    return mediquo_of(request).settings


@router.patch("/settings")
async def change_settings(request: Request, changes: Changes) -> Settings:
    """Change what is given; the rest stays."""
    current = mediquo_of(request).settings
    for name, value in changes.model_dump(exclude_unset=True).items():
        setattr(current, name, value)
    return current


@router.get("/stats")
async def stats(request: Request) -> dict[str, Any]:
    """Totals since the start or the last reset."""
    return totals(mediquo_of(request))


@router.post("/script", description=SCRIPT)
async def script(request: Request, wanted: Script) -> dict[str, list[str]]:
    mediquo = mediquo_of(request)
    try:
        mediquo.faults.script(wanted.endpoint, *wanted.outcomes)
    except ValueError as error:
        raise HTTPException(422, str(error)) from None
    return mediquo.faults.scripted()


@router.post("/restart")
async def restart(request: Request) -> dict[str, Any]:
    """Cut all other connections, and forget accepted writes that are not visible and rate limits."""
    request.state.abort_others()
    mediquo_of(request).restart()
    return totals(mediquo_of(request))


@router.post("/reset")
async def reset(request: Request) -> dict[str, Any]:
    """Forget patients, scripts, counters and rate limits; the settings stay."""
    mediquo_of(request).reset()
    return totals(mediquo_of(request))


def totals(mediquo: MediQuo) -> dict[str, Any]:
    return {
        **mediquo.journal.totals(),
        "visible": len(mediquo.store),
        "pending": mediquo.store.pending(),
    }
