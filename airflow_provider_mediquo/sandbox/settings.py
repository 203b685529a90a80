"""What can be set: the one declaration behind the flags, the runtime endpoint and the docs."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Settings(BaseModel):
    """How the sandbox behaves; each attribute can be set while it runs."""

    model_config = ConfigDict(
        extra="forbid", validate_assignment=True, use_attribute_docstrings=True, allow_inf_nan=False
    )

    lag: float = Field(2.0, ge=0)
    """Seconds from the acceptance of a write until a GET shows it."""
    latency: float = Field(0.05, ge=0)
    """Seconds from a request to its answer; a write is accepted before they pass."""
    jitter: float = Field(0.0, ge=0)
    """Seconds added to the latency at most, at random for each request."""
    requests_per_minute: int = Field(600, ge=1)
    """Requests that one address may send to one endpoint within a minute."""
    minute: float = Field(60.0, gt=0)
    """Seconds that the rate limit's minute lasts; a shorter one makes trials quick."""
    window: Literal["fixed", "sliding"] = "fixed"
    """Whether the minute starts with a first request and ends for all at once, or slides."""
    retry_after: Literal["seconds", "date", "none"] = "seconds"
    """How a 429 says when to come back: whole seconds, an HTTP date, or not at all."""
    max_patients: int = Field(100, ge=1)
    """Patients that one request may carry; one more is a 422."""
    success_body: Literal["current", "earlier"] = "current"
    """The body of an accepted upsert, as in the current page or in the earlier one."""
    validation_detail: Literal["errors", "message", "none"] = "errors"
    """What a 422 tells: a message and errors by field, the message alone, or nothing."""
    quote_values: bool = True
    """Whether the message of a 422 quotes the value that was refused."""
    refuse_tax_id: str = ""
    """A tax_id that is refused though the documents don't say so; empty: none."""
    error_rate: float = Field(0.0, ge=0, le=1)
    """Share of requests answered 500, 502, 503 or 504; nothing was written."""
    lost_before_rate: float = Field(0.0, ge=0, le=1)
    """Share of requests whose connection is cut without an answer; nothing was written."""
    lost_after_rate: float = Field(0.0, ge=0, le=1)
    """Share of requests whose connection is cut without an answer after the write was accepted."""
    drip: float = Field(0.5, ge=0)
    """Seconds before each byte of a scripted slow_body."""
    unknown_patient_status: Literal[404, 401] = 404
    """Status of an authenticate whose patient is not visible."""
    touch_unchanged: bool = False
    """Whether a write that changes nothing moves updated_at."""
    timestamp_format: Literal["space", "iso"] = "space"
    """How GET writes times: 2000-01-01 10:00:00+0000, or 2000-01-01T10:00:00Z."""
    clock_skew: float = Field(0.0, ge=-1e9, le=1e9)
    """Seconds that the server's clock is ahead: the Date header and every time in an answer."""
    seed: int | None = None
    """Seed of the random faults and of the jitter; none: different each time."""
