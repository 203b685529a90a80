"""The control API: inspects and changes the sandbox while it runs; needs no keys."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, HTTPException, Request
from pydantic import BaseModel, Field

from airflow_provider_mediquo.sandbox.model import faults
from airflow_provider_mediquo.sandbox.model.service import MediQuo
from airflow_provider_mediquo.sandbox.settings import Settings

SCRIPT = "\n".join(
    [
        "Append outcomes to an endpoint's script, and return all that are still to come. Outcomes:\n",
        *(f"- `{name}`: {meaning}" for name, meaning in faults.OUTCOMES.items()),
        "- `400` to `599`: this error; with a Retry-After in seconds as in `429:3`",
    ]
)
Changes = Annotated[Settings, Body(examples=[{"lag": 0.5, "error_rate": 0.1}])]

router = APIRouter(prefix="/sandbox", tags=["Sandbox"])


class Script(BaseModel):
    """Outcomes of the next requests to an endpoint, one per request; they precede random faults."""

    endpoint: str = Field(examples=["upsert"])
    outcomes: list[str] = Field(examples=[["503", "lost_after", "429:3", "ok"]])


def mediquo_of(request: Request) -> MediQuo:
    mediquo: MediQuo = request.state.mediquo
    return mediquo


@router.get("/settings")
async def settings(request: Request) -> Settings:
    """Return the settings."""
    return mediquo_of(request).settings


@router.patch("/settings")
async def change_settings(request: Request, changes: Changes) -> Settings:
    """Change the given settings; the others stay."""
    current = mediquo_of(request).settings
    for name, value in changes.model_dump(exclude_unset=True).items():
        setattr(current, name, value)
    return current


@router.get("/stats")
async def stats(request: Request) -> dict[str, Any]:
    """Return the totals since the start or the last reset."""
    return totals(mediquo_of(request))


@router.post("/script", description=SCRIPT)
async def script(request: Request, given: Script) -> dict[str, list[str]]:
    mediquo = mediquo_of(request)
    try:
        mediquo.faults.script(given.endpoint, *given.outcomes)
    except ValueError as error:
        raise HTTPException(422, str(error)) from None
    return mediquo.faults.scripted()


@router.post("/restart")
async def restart(request: Request) -> dict[str, Any]:
    """Cut all other connections, and lose the writes that are not visible yet, and the rate limits."""
    request.state.abort_others()
    mediquo_of(request).restart()
    return totals(mediquo_of(request))


@router.post("/reset")
async def reset(request: Request) -> dict[str, Any]:
    """Clear patients, scripts, counters and rate limits; keep the settings."""
    mediquo_of(request).reset()
    return totals(mediquo_of(request))


def totals(mediquo: MediQuo) -> dict[str, Any]:
    return {
        **mediquo.journal.totals(),
        "visible": len(mediquo.store),
        "pending": mediquo.store.pending(),
    }
